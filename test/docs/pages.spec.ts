import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { environmentSchema } from '../../src/platform/config/config.js';
import architecture from '../architecture.cjs';

const project = join(import.meta.dirname, '../..');

describe('the pages for people', () => {
  it('name only files that are there', async () => {
    const pages = await pagesOf();
    const inBackticks = pages.flatMap(({ text }) =>
      [...text.matchAll(/`((?:src|test|setup|migrations|supervisor|bench|clients)\/[\w./-]*)`/g)].map(
        ([, path]) => path!,
      ),
    );
    const links = pages.flatMap(({ path, text }) =>
      [...text.matchAll(/\]\((?!http)([^)#]+)(?:#[^)]*)?\)/g)].map(([, to]) => join(dirname(path), to!)),
    );
    expect(inBackticks.length).toBeGreaterThan(10);
    expect(links.length).toBeGreaterThan(50);
    expect([...inBackticks, ...links].filter((path) => !existsSync(join(project, path)))).toEqual([]);
  });

  it('lead only to headings that are there', async () => {
    const pages = await pagesOf();
    const targets = pages.flatMap(({ path, text }) =>
      [...text.matchAll(/\]\((?!http)([^)#]*)#([^)]+)\)/g)].map(([, to, heading]) => ({
        from: path,
        page: to === '' ? path : join(dirname(path), to!),
        heading: heading!,
      })),
    );
    expect(targets.length).toBeGreaterThan(5);
    const anchorsOf = (path: string) =>
      [...(pages.find((page) => page.path === path)?.text ?? '').matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
        heading!
          .toLowerCase()
          .replace(/[^\w\s-]/g, '')
          .replaceAll(' ', '-'),
      );
    expect(targets.filter(({ page, heading }) => !anchorsOf(page).includes(heading))).toEqual([]);
  });

  it('are all in the index', async () => {
    const index = await read('docs/README.md');
    const pages = (await readdir(join(project, 'docs'))).filter((name) => name !== 'README.md');
    expect(pages.filter((name) => !index.includes(`(${name})`))).toEqual([]);
  });

  it('have each folder of src in the map, in the order that npm run architecture checks', async () => {
    const map = await read('docs/architecture.md');
    const order = /^`(platform → .*)`$/m.exec(map)![1]!.split(' → ');
    const rows = [...map.matchAll(/^\| `(\w+)` +\| /gm)].map(([, folder]) => folder);
    expect(rows).toEqual(expect.arrayContaining(order));
    const folders = await readdir(join(project, 'src'));
    expect(order).toEqual(expect.arrayContaining(folders));
    const rules = architecture.forbidden!.map(
      ({ name }) => /^(\w+)-imports-only-leftwards$/.exec(name!)?.[1],
    );
    const line = rules.filter((folder) => folder !== undefined);
    expect(order.filter((folder) => line.includes(folder))).toEqual(line);
    const contributing = await read('CONTRIBUTING.md');
    expect(contributing).toContain(`\`${order.join(' ')}\``);
  });

  it('name only commands and settings that are there', async () => {
    const { scripts } = JSON.parse(await read('package.json')) as { scripts: Record<string, string> };
    const commandsOf = (text: string) =>
      [...text.matchAll(/\bnpm (?:(start|test)\b|run ([\w:-]+))/g)].map(([, short, name]) => short ?? name!);
    const pages = await pagesOf();
    const named = pages.flatMap(({ text }) => commandsOf(text));
    const inReadme = commandsOf(await read('README.md'));
    for (const name of ['start', 'test', 'demo', 'fuzz', 'openapi']) expect(inReadme).toContain(name);
    expect(named.filter((name) => !(name in scripts))).toEqual([]);
    const settings = pages.flatMap(({ text }) =>
      [...text.matchAll(/^\| `([A-Z_]{4,})`/gm)].map(([, name]) => name!),
    );
    expect(settings.length).toBeGreaterThan(30);
    expect(settings.filter((name) => !(name in environmentSchema.shape))).toEqual([]);
  });
});

/** The pages at the top, and every page of docs. */
async function pagesOf(): Promise<{ path: string; text: string }[]> {
  const docs = (await readdir(join(project, 'docs'))).filter((name) => name.endsWith('.md'));
  const top = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md'];
  const paths = [...top, ...docs.map((name) => `docs/${name}`)];
  return Promise.all(paths.map(async (path) => ({ path, text: await read(path) })));
}

function read(path: string): Promise<string> {
  return readFile(join(project, path), 'utf8');
}
