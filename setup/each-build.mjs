/** Runs the end-to-end suites once per build, and prints a table. `npm run test:builds` provides the databases. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import Table from 'cli-table3';
import { builds } from '#dist/src/sandbox/builds/builds.js';
import { bold, printFailure, say, SetupError } from './console.mjs';
import { parseJson } from './json.mjs';
import { PROJECT } from './settings.mjs';

/** What depends on the page: sending, receiving, media, actions, reads and groups. */
const suites = ['first-message', 'delivery', 'content', 'media', 'message-actions', 'reads', 'groups'];
/** A run that hangs is ended, and counts as failed. On two idle processors a build takes two minutes. */
const limitMs = 20 * 60_000;

/** The part of vitest's JSON report that the table needs. @typedef {{ name: string, startTime: number, endTime: number, assertionResults: { status: string, fullName: string }[] }} File */
/** @typedef {{ suite: string, passed: number, others: string[], seconds: number }} Outcome */

/**
 * Runs all suites on a build.
 * @param {string} build
 * @returns {Promise<{ ok: boolean, outcomes: Outcome[] }>} `ok` is false also for an error outside of the tests
 */
async function testOn(build) {
  const folder = mkdtempSync(join(tmpdir(), 'flotilla-builds-'));
  const report = join(folder, 'report.json');
  try {
    const files = suites.map((suite) => `test/e2e/${suite}.spec.ts`);
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
    const child = spawn(
      process.execPath,
      ['node_modules/vitest/vitest.mjs', 'run', '--project', 'e2e', ...reporters, ...files],
      {
        cwd: PROJECT,
        stdio: ['ignore', 'inherit', 'inherit'],
        env: { ...process.env, SANDBOX_BUILD: build },
        timeout: limitMs,
      },
    );
    /** @type {number | null} */
    const code = await new Promise((resolve, reject) => {
      child.once('error', reject).once('exit', (status) => resolve(status));
    });
    return { ok: code === 0, outcomes: outcomesOf(report) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @param {string} report a file that a run writes at its end @returns {Outcome[]} */
function outcomesOf(report) {
  const text = existsSync(report) ? readFileSync(report, 'utf8') : '{"testResults": []}';
  const { testResults } = /** @type {{ testResults: File[] }} */ (parseJson(text));
  return suites.map((suite) => {
    const file = testResults.find(({ name }) => basename(name) === `${suite}.spec.ts`);
    const results = file?.assertionResults ?? [];
    return {
      suite,
      passed: results.filter(({ status }) => status === 'passed').length,
      others: results
        .filter(({ status }) => status !== 'passed')
        .map(({ status, fullName }) => `${status}: ${fullName}`),
      seconds: file ? Math.round((file.endTime - file.startTime) / 1000) : 0,
    };
  });
}

/** @param {string} name @param {Outcome[]} outcomes */
function print(name, outcomes) {
  const table = new Table({ head: [name, 'passed', 'others', 's'], style: { head: [], border: [] } });
  for (const { suite, passed, others, seconds } of outcomes) {
    table.push([suite, passed, others.length, seconds]);
  }
  say(table.toString());
  for (const other of outcomes.flatMap(({ others }) => others)) say(`  ${other}`);
}

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !builds.some((build) => build.name === name));
if (unknown.length > 0) {
  printFailure(
    new SetupError(
      `There is no build ${unknown.join(', ')}. Known builds: ${builds.map(({ name }) => name).join(', ')}.`,
    ),
  );
  process.exit(1);
}
const chosen = builds.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
/** @type {[string, Outcome[]][]} */
const tables = [];
for (const [index, { name, version }] of chosen.entries()) {
  say(bold(`Build ${index + 1} of ${chosen.length}: ${name} (${version})`));
  const { ok, outcomes } = await testOn(name);
  // A suite without any test that passed has not run.
  if (!ok || outcomes.some(({ passed, others }) => passed === 0 || others.length > 0)) process.exitCode = 1;
  tables.push([name, outcomes]);
}
for (const [name, outcomes] of tables) print(name, outcomes);
