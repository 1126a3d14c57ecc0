/**
 * `npm run abuse [-- --seconds N --only NAME,NAME]`: provisions like npm test, then runs the abuse benchmark on private
 * databases and ports. The exit code is 1 when a target is missed.
 */
import { join } from 'node:path';
import { runIsolated } from './isolated.mjs';
import { PROJECT } from './settings.mjs';

await runIsolated([join(PROJECT, 'bench/run.mjs'), 'abuse', ...process.argv.slice(2)]);
