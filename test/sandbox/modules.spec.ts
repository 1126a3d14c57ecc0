import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { leftOutModules } from './left-out-modules.js';
import { type Account, SandboxHarness, until } from './sandbox.harness.js';

let sandbox: SandboxHarness;
let account: Account;

beforeAll(async () => {
  sandbox = await SandboxHarness.start();
  account = sandbox.account();
  void account.open();
  await until('the page', () => account.qrs.length > 0);
}, 60_000);

afterAll(() => sandbox?.stop(), 30_000);

/** The modules of WhatsApp Web that the installed library names. */
async function modulesOfTheLibrary(): Promise<string[]> {
  const library = join(dirname(createRequire(import.meta.url).resolve('whatsapp-web.js')), 'src');
  const files = (await readdir(library, { recursive: true })).filter((path) => path.endsWith('.js'));
  const texts = await Promise.all(files.map((path) => readFile(join(library, path), 'utf8')));
  const names = texts.flatMap((text) =>
    [...text.matchAll(/window\s*\.\s*require\(\s*'([^']+)'/g), ...text.matchAll(/\bmodule: '([^']+)'/g)].map(
      ([, name]) => name!,
    ),
  );
  return [...new Set(names)].sort();
}

it('has every module that the library names, except those that are left out for a reason', async () => {
  const named = await modulesOfTheLibrary();
  // Fewer means that the library writes its names in another way now.
  expect(named.length).toBeGreaterThan(100);
  const has = (name: string): Promise<boolean> =>
    account.client.pupPage!.evaluate(
      `try { require('${name}') !== undefined } catch { false }`,
    ) as Promise<boolean>;
  const present = await Promise.all(named.map(has));
  const missing = named.filter((_, i) => !present[i]);
  process.stdout.write(`${named.length} modules named, ${named.length - missing.length} present\n`);
  expect(missing).toEqual(Object.keys(leftOutModules).sort());
});
