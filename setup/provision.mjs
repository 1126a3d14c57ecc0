/**
 * Provides what every command needs: Node, packages and the build.
 */
import { accessSync, constants, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build, isBuilt } from './build.mjs';
import { SetupError, say, step } from './console.mjs';
import { withLock } from './lock.mjs';
import { installNpmPackages, npmPackagesInstalled } from './npm-packages.mjs';
import { processName } from './processes.mjs';
import { PROJECT } from './settings.mjs';
import { checkDisk } from './system.mjs';
import { ensureSystemPackages } from './system-packages.mjs';

const OLDEST_NODE = { major: 20, minor: 19 };

/**
 * @param {Parameters<typeof ensureSystemPackages>[0]} settings
 * @param {{ yes?: boolean }} [options]
 */
export async function provision(settings, { yes = false } = {}) {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < OLDEST_NODE.major || (major === OLDEST_NODE.major && minor < OLDEST_NODE.minor)) {
    throw new SetupError(
      `Flotilla needs Node.js ${OLDEST_NODE.major}.${OLDEST_NODE.minor} or newer, and this is ${process.versions.node}. Install a newer one (nodejs.org).`,
    );
  }
  if (process.platform !== 'linux') {
    throw new SetupError(
      `Flotilla's set-up runs on Linux, and this is ${process.platform}. Use a Debian or Ubuntu machine, virtual machine or container.`,
    );
  }
  checkWritable(PROJECT);
  checkDisk(PROJECT);
  mkdirSync(join(PROJECT, 'var'), { recursive: true });
  const log = join(PROJECT, 'var/setup.log');

  await withLock(
    join(PROJECT, 'var/setup.lock'),
    async () => {
      rmSync(log, { force: true });
      if (npmPackagesInstalled(PROJECT)) await step('npm packages', ({ note }) => note('all there'));
      else await step('npm packages', () => installNpmPackages(PROJECT, log));
      await ensureSystemPackages(settings, { yes, log, step });
      if (isBuilt(PROJECT)) await step('build', ({ note }) => note('up to date'));
      else await step('build', () => build(PROJECT, log));
    },
    (pid) => say(`… waiting for another set-up of this checkout (pid ${pid}, ${processName(pid)})`),
  );
}

/** @param {string} directory */
function checkWritable(directory) {
  try {
    accessSync(directory, constants.W_OK);
  } catch {
    throw new SetupError(
      `You may not write to ${directory}. Make it yours with: sudo chown -R "$USER" ${directory}`,
    );
  }
}
