import { type ChildProcess, spawn } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { profileDir } from '../../src/whatsapp/browser/profile.js';
import { eventually } from '../support/eventually.js';
import { browsersOn, endBrowsersOn } from '../../src/whatsapp/browser/processes.js';

const chromium = process.env.CHROMIUM_PATH ?? '/usr/bin/chromium-headless-shell';
const source = join(import.meta.dirname, '../../src/whatsapp/browser');

/**
 * An instance as a guardian sees it. It extends its deadline by `ms` every 200 ms, and starts a watched browser and an
 * unwatched browser. It controls them over sockets, so only the guardian ends them when the instance dies.
 */
const instance = `
  const [project, dir, sessions, ms, chromium] = process.argv.slice(1);
  const { createRequire } = await import('node:module');
  const puppeteer = createRequire(project)('puppeteer');
  const { BrowserGuardian } = await import(dir + '/guardian.js');
  const guardian = new BrowserGuardian({
    sessionsDir: sessions,
    script: dir + '/guardian.sh',
    onWarning: (message) => console.log('warning ' + message),
  });
  const extend = () => {
    guardian.extend(performance.now() + Number(ms));
    console.log('extended');
  };
  extend();
  setInterval(extend, 200);
  const launch = (account) => puppeteer.launch({
    executablePath: chromium,
    userDataDir: sessions + '/session-' + account,
    headless: 'shell',
    handleSIGTERM: false,
    args: ['--no-sandbox', '--disable-gpu'],
  });
  await guardian.watch('watched');
  await Promise.all([launch('watched'), launch('other')]);
  console.log('ready');
  process.on('SIGUSR2', async () => {
    await guardian.watch('watched');
    await launch('watched');
    console.log('again');
  });
  process.on('SIGTERM', async () => {
    await guardian.close();
    console.log('closed');
    process.kill(process.pid, 'SIGKILL');
  });
`;

let dir: string;
let sessions: string;
let child: ChildProcess;
let output: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla guardian-'));
  sessions = join(dir, 'the sessions');
  await build({
    entryPoints: [join(source, 'guardian.ts')],
    outfile: join(dir, 'guardian.js'),
    bundle: true,
    platform: 'node',
    format: 'esm',
  });
  await writeFile(join(dir, 'package.json'), '{"type":"module"}');
  await cp(join(source, 'guardian.sh'), join(dir, 'guardian.sh'));
});

afterEach(async () => {
  child.kill('SIGKILL');
  for (const account of ['watched', 'other']) await endBrowsersOn(profileDir(sessions, account), 5_000);
  await rm(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
});

/** Starts an instance whose browsers may live for `ms` after its last extension. */
async function start(ms: number): Promise<void> {
  const project = createRequire(import.meta.url).resolve('../../package.json');
  output = '';
  child = spawn(
    process.execPath,
    ['--input-type=module', '-e', instance, project, dir, sessions, String(ms), chromium],
    { detached: true, stdio: ['ignore', 'pipe', 'inherit'] },
  );
  child.stdout!.on('data', (chunk) => (output += String(chunk)));
  await said('ready');
}

async function said(words: string): Promise<void> {
  await eventually(`it says "${words}"`, () => output.includes(words));
}

const isUp = async (account: string) => (await browsersOn(profileDir(sessions, account))).length > 0;

/** The helper processes: no other bash process has the directory of these sessions as an argument. */
async function guardians(): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(
    // A process that has ended by now does not count.
    pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
  );
  return lines.filter((line) => line.startsWith('bash\0') && line.includes(sessions));
}

/** Waits until the watched browser is gone. @returns how long that took, in milliseconds */
async function goneAfter(): Promise<number> {
  const started = performance.now();
  await eventually('it is gone', async () => !(await isUp('watched')));
  return performance.now() - started;
}

// The deadlines are seconds: much longer than a process waits for its turn on a busy machine.
it('does not touch the browsers while their instance extends the deadline', async () => {
  await start(2_000);
  const extensions = () => output.split('extended').length;
  const first = extensions();
  await eventually('the first deadline has passed', () => extensions() > first + 2_000 / 200);
  expect(await isUp('watched')).toBe(true);
  expect(output).not.toContain('warning');
});

it('kills only the browsers of a stopped instance at the deadline, and guards again when the instance continues', async () => {
  await start(4_000);
  child.kill('SIGSTOP');
  const gone = await goneAfter();
  expect(gone).toBeGreaterThan(1_000);
  expect(gone).toBeLessThan(8_000);
  expect(await isUp('other')).toBe(true);

  child.kill('SIGCONT');
  await said('the deadline was not extended in time');
  child.kill('SIGUSR2');
  await said('again');
  expect(await isUp('watched')).toBe(true);
  child.kill('SIGSTOP');
  expect(await goneAfter()).toBeLessThan(8_000);
  expect(await isUp('other')).toBe(true);
});

it('kills the browsers of a dead instance at once, even if its whole process group was killed', async () => {
  await start(60_000);
  process.kill(-child.pid!, 'SIGKILL');
  expect(await goneAfter()).toBeLessThan(8_000);
  expect(await isUp('other')).toBe(true);
});

it('kills nothing and ends when it is closed', async () => {
  await start(60_000);
  expect(await guardians()).toHaveLength(1);
  child.kill('SIGTERM');
  await said('closed');
  await eventually('its helper is gone', async () => (await guardians()).length === 0);
  expect(await isUp('watched')).toBe(true);
});
