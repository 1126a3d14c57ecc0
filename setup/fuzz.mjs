/**
 * `npm run fuzz [-- --requests N --seed N]`: the fuzz test of `npm test` with any number of requests. The seed is random by
 * default.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { runIsolated } from './isolated.mjs';
import { PROJECT } from './settings.mjs';

const { values } = parseArgs({
  options: { requests: { type: 'string', default: '10000' }, seed: { type: 'string' } },
});
process.env.FUZZ_REQUESTS = values.requests;
process.env.FUZZ_SEED = values.seed ?? String(Date.now() % 1_000_000_000);
await runIsolated([join(PROJECT, 'node_modules/vitest/vitest.mjs'), 'run', 'test/e2e/fuzz.spec.ts']);
