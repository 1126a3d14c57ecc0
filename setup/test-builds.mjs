/**
 * `npm run test:builds [-- BUILD…]`: the end-to-end suites that drive a page, on each build of WhatsApp Web that the sandbox
 * knows, or on the named builds. It provisions like npm test. The exit code is 1 when a test fails.
 */
import { join } from 'node:path';
import { runIsolated } from './isolated.mjs';
import { PROJECT } from './settings.mjs';

await runIsolated([join(PROJECT, 'setup/each-build.mjs'), ...process.argv.slice(2)]);
