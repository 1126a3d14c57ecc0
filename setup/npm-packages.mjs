/**
 * The npm packages of package-lock.json in node_modules.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SetupError } from './console.mjs';
import { parseJson } from './json.mjs';
import { run } from './processes.mjs';

/**
 * Whether node_modules holds what package-lock.json asks for. npm writes its own list into node_modules as the last act
 * of an installation, so an interrupted one has none.
 *
 * @param {string} project
 */
export function npmPackagesInstalled(project) {
  const hidden = join(project, 'node_modules/.package-lock.json');
  if (!existsSync(hidden)) return false;
  const wanted = packagesOf(join(project, 'package-lock.json'));
  const installed = packagesOf(hidden);
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === '') return true;
    const found = installed[path];
    // Packages for other systems are optional and left out.
    if (!found) return Boolean(entry.optional || entry.devOptional);
    return found.version === entry.version && found.integrity === entry.integrity;
  });
}

/** @typedef {{ version?: string, integrity?: string, optional?: boolean, devOptional?: boolean }} Entry */

/** @param {string} lockFile */
function packagesOf(lockFile) {
  const { packages = {} } = /** @type {{ packages?: Record<string, Entry> }} */ (
    parseJson(readFileSync(lockFile, 'utf8'))
  );
  return packages;
}

/**
 * @param {string} project
 * @param {string} log
 */
export async function installNpmPackages(project, log) {
  // The npm that runs this script, or else the npm on the PATH.
  const npm = process.env.npm_execpath?.endsWith('.js')
    ? [process.execPath, process.env.npm_execpath]
    : ['npm'];
  await run([...npm, 'ci', '--include=dev', '--ignore-scripts', '--no-audit', '--no-fund'], {
    cwd: project,
    env: { ...process.env, PUPPETEER_SKIP_DOWNLOAD: 'true', NODE_ENV: '' },
    log,
    failure: `npm could not install the packages. See the lines above and ${log}; check the network connection, then start again.`,
  });
  if (!npmPackagesInstalled(project)) {
    throw new SetupError(
      'npm finished, but node_modules does not hold what package-lock.json names. Delete node_modules and start again.',
    );
  }
}
