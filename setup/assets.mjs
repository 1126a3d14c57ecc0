/**
 * The files that `nest build` copies into `dist` as they are, kept up to date by `npm run dev`. The watcher of `nest build`
 * loses a file that an editor or git replaces.
 */
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { filesBelow } from './dependencies.mjs';
import { parseJson } from './json.mjs';

/** `*` is part of a name, and `**` is any number of directories. @param {string} glob */
export const globPattern = (glob) =>
  new RegExp(
    `^${glob.replace(/\*\*\/|\*\*|\*|[^\w/-]/g, (part) => ({ '**/': '(?:.*/)?', '**': '.*', '*': '[^/]*' })[part] ?? `\\${part}`)}$`,
  );

/**
 * Whether a path below `src` is an asset, as nest-cli.json has it.
 *
 * @param {string} project
 * @returns {(path: string) => boolean}
 */
export function assetFilter(project) {
  const { compilerOptions } =
    /** @type {{ compilerOptions: { assets?: (string | { include: string, exclude?: string })[] } }} */ (
      parseJson(readFileSync(join(project, 'nest-cli.json'), 'utf8'))
    );
  const assets = compilerOptions.assets ?? [];
  const patterns = assets.map((asset) => {
    const { include, exclude } = typeof asset === 'string' ? { include: asset } : asset;
    return {
      include: globPattern(include),
      exclude: exclude === undefined ? undefined : globPattern(exclude),
    };
  });
  return (path) => patterns.some(({ include, exclude }) => include.test(path) && !exclude?.test(path));
}

/**
 * Copies the assets that differ from their copies.
 *
 * @param {string} project
 * @param {(path: string) => boolean} isAsset
 * @returns {boolean} whether there were any
 */
export function copyAssets(project, isAsset) {
  const source = join(project, 'src');
  const copies = join(project, 'dist/src');
  const different = filesBelow(source)
    .filter(isAsset)
    .filter((path) => {
      const content = contentOf(join(source, path));
      // An editor that replaces a file removes it first: it is copied when it is there again.
      return content && !contentOf(join(copies, path))?.equals(content);
    });
  for (const path of different) {
    mkdirSync(dirname(join(copies, path)), { recursive: true });
    copyFileSync(join(source, path), join(copies, path));
  }
  return different.length > 0;
}

/** @param {string} file */
function contentOf(file) {
  try {
    return readFileSync(file);
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ENOENT') return undefined;
    throw error;
  }
}
