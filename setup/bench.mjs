/**
 * `npm run bench [-- arguments]`: provisions like npm test, then runs bench/run.mjs on a PostgreSQL and Redis of its own.
 */
import { join } from 'node:path';
import { runIsolated } from './isolated.mjs';
import { PROJECT } from './settings.mjs';

await runIsolated([join(PROJECT, 'bench/run.mjs'), ...process.argv.slice(2)]);
