/**
 * The files that `nest build` copies into `dist` as they are, kept up to date by `npm run dev`. The watcher of `nest build`
 * loses a file that an editor or git replaces.
 */
import { copyFileSync, mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** `*` is part of a name, and `**` is any number of directories. @param {string} glob */
export const globPattern = (glob) =>
  new RegExp(
    `^${glob.replace(/\*\*\/|\*\*|\*|[^\w/-]/g, (part) => ({ '**/': '(?:.*/)?', '**': '.*', '*': '[^/]*' })[part] ?? `\\${part}`)}$`,
  );

/**
 * The files that nest-cli.json names as assets, below the project.
 *
 * @param {string} project
 * @returns {string[]}
 */
export function assetsOf(project) {
  const { sourceRoot, compilerOptions } = JSON.parse(readFileSync(join(project, 'nest-cli.json'), 'utf8'));
  /** @type {(string | { include: string, exclude?: string })[]} */
  const assets = compilerOptions.assets ?? [];
  const patterns = assets.map((asset) => {
    const { include, exclude } = typeof asset === 'string' ? { include: asset } : asset;
    return {
      include: globPattern(include),
      exclude: exclude === undefined ? undefined : globPattern(exclude),
    };
  });
  const root = join(project, sourceRoot);
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .filter((path) => patterns.some(({ include, exclude }) => include.test(path) && !exclude?.test(path)))
    .map((path) => join(sourceRoot, path));
}

/**
 * Copies the assets that differ from their copies.
 *
 * @param {string} project
 * @returns {boolean} whether there were any
 */
export function copyAssets(project) {
  const different = assetsOf(project).filter((path) => {
    const content = contentOf(join(project, path));
    // An editor that replaces a file removes it first: it is copied when it is there again.
    return content && !contentOf(join(project, 'dist', path))?.equals(content);
  });
  for (const path of different) {
    mkdirSync(dirname(join(project, 'dist', path)), { recursive: true });
    copyFileSync(join(project, path), join(project, 'dist', path));
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
