/**
 * `npm run chaos [-- --minutes N --seed N]`: provisions like npm test, then runs the chaos benchmark on private databases
 * and ports. The exit code is 1 when a target is missed.
 */
import { join } from 'node:path';
import { runIsolated } from './isolated.mjs';
import { PROJECT } from './settings.mjs';

await runIsolated([join(PROJECT, 'bench/run.mjs'), 'chaos', ...process.argv.slice(2)]);
