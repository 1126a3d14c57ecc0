/**
 * `./flotilla ctl …`: supervisorctl for the supervisord of `npm start`, or for the system's supervisord in production.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { SetupError, printFailure } from './console.mjs';
import { readSettings } from './settings.mjs';
import { runningSupervisord, supervisordPaths } from './supervisord.mjs';
import { findSupervisorctl } from './system-packages.mjs';

const PRODUCTION = '/etc/supervisor/conf.d/flotilla.conf';

try {
  const { varDir } = readSettings();
  const program = findSupervisorctl();
  if (!program)
    throw new SetupError(
      'supervisorctl is not installed. Run npm start once, or install the package supervisor.',
    );
  const ours = runningSupervisord(varDir) !== undefined;
  if (!ours && !existsSync(PRODUCTION))
    throw new SetupError('Flotilla is not running here. Start it with: npm start');
  const config = ours ? ['-c', supervisordPaths(varDir).config] : [];
  process.exitCode =
    spawnSync(program, [...config, ...process.argv.slice(2)], { stdio: 'inherit' }).status ?? 1;
} catch (error) {
  printFailure(error);
  process.exitCode = 1;
}
