/**
 * `npm run bench [-- arguments]`: provisions like npm test, then runs bench/run.mjs on a private PostgreSQL and Redis.
 */
import { join } from 'node:path';
import { runIsolated } from './isolated.mjs';
import { PROJECT } from './settings.mjs';

const wanted = process.argv.slice(2);
const named = wanted.filter((argument) => /^[a-z]/.test(argument));
await runIsolated([join(PROJECT, 'bench/run.mjs'), ...wanted], {
  // The memory benchmark measures the default launch of whatsapp-web.js, which starts the full browser.
  fullBrowser: named.length === 0 || named.includes('memory'),
});
