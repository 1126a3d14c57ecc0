import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PROJECT } from '../../setup/settings.mjs';

const read = (name: string) => JSON.parse(readFileSync(join(PROJECT, name), 'utf8'));
/** An override may also be the version of the dependency itself: `$name`. */
const exact = /^(\d+\.\d+\.\d+(-[\w.]+)?|\$[\w-]+)$/;

describe('what Flotilla depends on', () => {
  it('is named by exact versions', () => {
    const { dependencies, devDependencies, overrides } = read('package.json');
    // An override may be for one package's dependencies only, which it then holds by name.
    const overridden = Object.entries<unknown>(overrides).flatMap<readonly [string, unknown]>(
      ([name, version]) =>
        typeof version === 'object' ? Object.entries(version as object) : [[name, version] as const],
    );
    const all = [...Object.entries({ ...dependencies, ...devDependencies }), ...overridden];
    expect(all.length).toBeGreaterThan(30);
    expect(all.filter(([, version]) => !exact.test(version as string))).toEqual([]);
  });

  it('is locked as it is named, each with its hash', () => {
    const { dependencies, devDependencies } = read('package.json');
    const { packages } = read('package-lock.json') as {
      packages: Record<string, { version?: string; integrity?: string; link?: boolean }>;
    };
    for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies })) {
      expect(packages[`node_modules/${name}`]?.version, name).toBe(version);
    }
    const unhashed = Object.entries(packages).filter(
      ([path, { integrity, link }]) => path && !integrity && !link,
    );
    expect(unhashed.map(([path]) => path)).toEqual([]);
  });
});
