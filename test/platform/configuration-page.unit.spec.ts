import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';
import { describe, expect, it } from 'vitest';
import { environmentSchema, projectRoot } from '../../src/platform/config/config.js';
import { configurationPage } from '../../src/platform/config/configuration-page.js';

const kept = join(projectRoot, 'docs/configuration.md');

describe('docs/configuration.md', () => {
  it('matches the schema; npm run docs:configuration writes it', async () => {
    const options = await resolveConfig(kept);
    const page = await format(configurationPage(), { ...options, parser: 'markdown' });
    expect(await readFile(kept, 'utf8')).toBe(page);
  });

  it('has a default and a meaning for each variable', () => {
    for (const name of Object.keys(environmentSchema.shape)) {
      const row = configurationPage()
        .split('\n')
        .find((line) => line.startsWith(`| \`${name}\` |`));
      expect(row, name).toMatch(/^\| `\w+` \| [^|]+ \| [^|]* \| [A-Z`0-9][^|]{10,}\. \|$/);
    }
  });
});

describe('.env.example', () => {
  it('names only variables that Flotilla reads', async () => {
    const example = await readFile(join(projectRoot, '.env.example'), 'utf8');
    const names = [...example.matchAll(/^(?:# )?([A-Z][A-Z0-9_]*)=/gm)].map(([, name]) => name!);
    expect(names.length).toBeGreaterThan(40);
    expect(names.filter((name) => !(name in environmentSchema.shape))).toEqual([]);
  });
});
