/**
 * Runs benchmarks, prints their figures, and writes them to bench/results/. Most figures are ratios within one run, because
 * ratios differ less between machines. Without a name it runs all benchmarks:
 *   npm run bench [-- NAME… --messages N --rounds N --faults N --instances N --accounts N --rows N --minutes N --seed N
 *     --seconds N --only NAME,NAME]
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';

/** @typedef {Record<'messages' | 'rounds' | 'faults' | 'instances' | 'accounts' | 'rows' | 'minutes' | 'seed' | 'seconds', number>} Numbers */

/** @typedef {{ rows: import('./fleet.mjs').Row[], missed?: string[] }} Result */

/** @type {Record<string, () => Promise<{ run: (options: Numbers & { only: string, log: (text: string) => void }) => Promise<Result>}>>} */
const benchmarks = {
  throughput: () => import('./throughput.mjs'),
  memory: () => import('./memory.mjs'),
  'fleet-simulation': () => import('./fleet-simulation.mjs'),
  recovery: () => import('./recovery.mjs'),
  ownership: () => import('./ownership.mjs'),
  chaos: () => import('./chaos.mjs'),
  delivery: () => import('./delivery.mjs'),
  api: () => import('./api.mjs'),
  webhooks: () => import('./webhooks.mjs'),
  canary: () => import('./canary.mjs'),
  abuse: () => import('./abuse.mjs'),
  lists: () => import('./lists.mjs'),
  media: () => import('./media.mjs'),
  campaigns: () => import('./campaigns.mjs'),
  'campaign-chaos': () => import('./campaign-chaos.mjs'),
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    messages: { type: 'string', default: '400' },
    rounds: { type: 'string', default: '3' },
    faults: { type: 'string', default: '200' },
    instances: { type: 'string', default: '100' },
    accounts: { type: 'string', default: '10000' },
    rows: { type: 'string', default: '1000000' },
    minutes: { type: 'string', default: '5' },
    seed: { type: 'string', default: '0' },
    seconds: { type: 'string', default: '0' },
    only: { type: 'string', default: '' },
  },
});
const { only, ...figures } = values;
const unknown = positionals.filter((name) => !(name in benchmarks));
if (unknown.length > 0) {
  process.stderr.write(
    `There is no benchmark ${unknown.join(', ')}. There are: ${Object.keys(benchmarks).join(', ')}.\n`,
  );
  process.exit(1);
}

const names = positionals.length > 0 ? positionals : Object.keys(benchmarks);
const results = {
  at: new Date().toISOString(),
  machine: {
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
  },
  /** @type {Record<string, Result>} */
  benchmarks: {},
};
const numbers = /** @type {Numbers} */ (
  Object.fromEntries(Object.entries(figures).map(([option, value]) => [option, Number(value)]))
);
for (const name of names) {
  process.stdout.write(`\n== ${name}\n`);
  try {
    const load = benchmarks[name];
    if (!load) throw new Error(`There is no benchmark ${name}.`);
    const { run } = await load();
    const result = await run({ ...numbers, only, log });
    results.benchmarks[name] = result;
    printRows(result.rows);
    for (const what of result.missed ?? []) {
      process.stderr.write(`${name} missed a target: ${what}\n`);
      process.exitCode = 1;
    }
  } catch (error) {
    // The other benchmarks still run, and their results are written.
    process.stderr.write(`${name} failed: ${error instanceof Error ? error.stack : String(error)}\n`);
    process.exitCode = 1;
  }
}

// A run without results must not replace the results of an earlier run.
if (Object.keys(results.benchmarks).length > 0) {
  const folder = join(import.meta.dirname, 'results');
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${results.at.slice(0, 10)}-${names.join('-')}.json`);
  writeFileSync(file, `${JSON.stringify(results, null, 2)}\n`);
  process.stdout.write(`\nWritten to ${file}\n`);
}

/** @param {string} text */
function log(text) {
  process.stdout.write(`  ${text}\n`);
}

/** @param {import('./fleet.mjs').Row[]} rows */
function printRows(rows) {
  const table = new Table({ head: ['', 'measured', 'target'], style: { head: [], border: [] } });
  for (const { what, value, target = '' } of rows) table.push([what, value, target]);
  process.stdout.write(`${table.toString()}\n`);
}
