/**
 * The compiled programs in dist/. They are built again only when a source has changed.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SetupError } from './console.mjs';
import { run } from './processes.mjs';

const STAMP = 'dist/.built-from';

/**
 * A hash over all files that the build reads.
 *
 * @param {string} project
 */
export function sourceHash(project) {
  const hash = createHash('sha256');
  const files = readdirSync(project).filter((name) =>
    /^(tsconfig.*|nest-cli|package|package-lock)\.json$/.test(name),
  );
  for (const folder of ['src', 'migrations', 'clients/typescript/src']) {
    if (!existsSync(join(project, folder))) continue;
    for (const entry of readdirSync(join(project, folder), { recursive: true, withFileTypes: true })) {
      if (entry.isFile()) files.push(join(entry.parentPath, entry.name).slice(project.length + 1));
    }
  }
  for (const file of files.sort())
    hash
      .update(file)
      .update('\0')
      .update(readFileSync(join(project, file)))
      .update('\0');
  return hash.digest('hex');
}

/** @param {string} project */
export function isBuilt(project) {
  const stamp = join(project, STAMP);
  return existsSync(stamp) && readFileSync(stamp, 'utf8').trim() === sourceHash(project);
}

/**
 * @param {string} project
 * @param {string} log
 */
export async function build(project, log) {
  const hash = sourceHash(project);
  // The Nest CLI goes first: it deletes what the others made.
  const commands = [
    'node_modules/@nestjs/cli/bin/nest.js build',
    'node_modules/typescript/bin/tsc -p src/sandbox/page',
    'setup/bundle.mjs',
  ];
  for (const command of commands) {
    const [script = '', ...args] = command.split(' ');
    await run([process.execPath, join(project, script), ...args], {
      cwd: project,
      env: { ...process.env, NO_COLOR: '1' },
      log,
      failure: 'The build failed with the errors above. Correct them and start again.',
    });
  }
  if (!existsSync(join(project, 'dist/programs/api.mjs'))) {
    throw new SetupError(
      'The build did not write dist/programs/api.mjs. Check "outDir" and "rootDir" in tsconfig.json.',
    );
  }
  writeStamp(project, hash);
}

/**
 * Notes what `dist` is built from, so that the next start does not build it again.
 *
 * @param {string} project
 * @param {string} hash
 */
export const writeStamp = (project, hash) => writeFileSync(join(project, STAMP), `${hash}\n`);
