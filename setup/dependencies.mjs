/**
 * Which compiled files a program reads, so that `npm run dev` restarts the programs that a change concerns.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

/** @typedef {{ hash: string, reads: string[] }} CompiledFile */
/** @typedef {Map<string, CompiledFile>} CompiledFiles by the path below `dist` */

/** Static and dynamic imports of own files, as the compiler writes them. */
const IMPORT = /\b(?:from|import)\s*\(?\s*(["'])(\.[^"']+)\1/g;
/** Files and directories that a module finds by its own place. */
const BESIDE =
  /\bimport\.meta\.dirname,\s*(["'])([^"']+)\1|\bnew URL\(\s*(["'])(\.[^"']+)\3,\s*import\.meta\.url/g;

/** Files and directories that a module finds by the project's directory. */
const IN_DIST = /\bjoin\(projectRoot,\s*(["'])dist\/([^"']+)\1/g;

/** @param {string} path */
const isCompared = (path) => /^(src|migrations|clients)\//.test(path) && !path.endsWith('.map');

/**
 * The files below a directory, as relative paths; none of a directory that goes away meanwhile.
 *
 * @param {string} directory
 * @returns {string[]}
 */
export function filesBelow(directory) {
  return entriesOf(directory).flatMap((entry) => {
    if (!entry.isDirectory()) return entry.isFile() ? [entry.name] : [];
    return filesBelow(join(directory, entry.name)).map((path) => join(entry.name, path));
  });
}

/** @param {string} directory */
function entriesOf(directory) {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ENOENT') return [];
    throw error;
  }
}

/**
 * Everything that the programs may read in `dist`.
 *
 * @param {string} dist
 * @returns {CompiledFiles}
 */
export function readCompiled(dist) {
  return new Map(
    filesBelow(dist)
      .filter(isCompared)
      .map((path) => {
        const content = readFileSync(join(dist, path));
        const hash = createHash('sha256').update(content).digest('hex');
        return [path, { hash, reads: path.endsWith('.js') ? readsOf(path, content.toString()) : [] }];
      }),
  );
}

/**
 * The paths below `dist` that a module names.
 *
 * @param {string} path its own
 * @param {string} content
 */
export function readsOf(path, content) {
  const named = [
    ...[...content.matchAll(IMPORT)].map(([, , name]) => name),
    ...[...content.matchAll(BESIDE)].map(([, , beside, , url]) => beside ?? url),
  ];
  return [
    ...named.map((name) => resolve('/', dirname(path), name ?? '').slice(1)),
    ...[...content.matchAll(IN_DIST)].map(([, , inDist]) => inDist ?? ''),
  ];
}

/**
 * The files that a module reads, and those that these read; of a directory all files.
 *
 * @param {string} entry
 * @param {CompiledFiles} files
 */
export function reachedFrom(entry, files) {
  const reached = new Set([entry]);
  // A set's iteration comes to what is added meanwhile.
  for (const path of reached) {
    for (const read of files.get(path)?.reads ?? []) {
      if (files.has(read)) reached.add(read);
      else if (read) for (const file of files.keys()) if (file.startsWith(`${read}/`)) reached.add(file);
    }
  }
  return reached;
}

/**
 * The paths whose content differs, or that only one of them has.
 *
 * @param {CompiledFiles} before
 * @param {CompiledFiles} after
 */
export const changedFiles = (before, after) =>
  [...new Set([...before.keys(), ...after.keys()])].filter(
    (path) => before.get(path)?.hash !== after.get(path)?.hash,
  );

/**
 * The programs that read one of these files.
 *
 * @param {readonly string[]} programs
 * @param {readonly string[]} changed
 * @param {CompiledFiles} files
 */
export const concernedPrograms = (programs, changed, files) =>
  programs.filter((program) => {
    const reached = reachedFrom(`src/roles/${program}.main.js`, files);
    return changed.some((path) => reached.has(path));
  });

/** What a compiled file is made from. @param {string} path */
const sourcesOf = (path) => [path, path.replace(/\.js(\.map)?$/, '.ts')];

/**
 * Removes what is left of sources that are no longer there: a migration must not run because of its compiled file.
 *
 * @param {string} project
 */
export function removeOutdated(project) {
  const dist = join(project, 'dist');
  for (const path of filesBelow(dist)) {
    if (!/^(src|migrations|clients)\//.test(path)) continue;
    if (!sourcesOf(path).some((source) => existsSync(join(project, source)))) rmSync(join(dist, path));
  }
}
