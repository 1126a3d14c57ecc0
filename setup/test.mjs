/**
 * `npm test [-- vitest arguments]`: provisions like npm start, then runs vitest on a private PostgreSQL and Redis.
 */
import { join } from 'node:path';
import { runIsolated } from './isolated.mjs';
import { PROJECT } from './settings.mjs';

// Some ninety databases come and go: a fifth of PostgreSQL's processor time would be the disk's.
await runIsolated([join(PROJECT, 'node_modules/vitest/vitest.mjs'), 'run', ...process.argv.slice(2)], {
  durable: false,
  pooler: true,
});
