import { type ChildProcess, spawn } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { ModuleKind, ScriptTarget, transpileModule } from 'typescript';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { profileDir } from '../../src/whatsapp/browser/profile.js';
import { eventually } from '../support/eventually.js';
import { browsersOn, endBrowsersOn } from '../../src/whatsapp/browser/processes.js';

const chromium = process.env.CHROMIUM_PATH ?? '/usr/bin/chromium-headless-shell';
const source = join(import.meta.dirname, '../../src/whatsapp/browser');

/**
 * An instance as a guardian sees it: extends its deadline by `ms` every 200 ms, and starts one browser that is watched
 * and one that is not. Its browsers are reached over sockets: only the guardian ends them when it dies.
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
  const extend = () => guardian.extend(performance.now() + Number(ms));
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
  const compiled = transpileModule(await readFile(join(source, 'guardian.ts'), 'utf8'), {
    compilerOptions: { module: ModuleKind.ESNext, target: ScriptTarget.ES2022 },
  });
  await writeFile(join(dir, 'package.json'), '{"type":"module"}');
  await writeFile(join(dir, 'guardian.js'), compiled.outputText);
  await cp(join(source, 'guardian.sh'), join(dir, 'guardian.sh'));
});

afterEach(async () => {
  child.kill('SIGKILL');
  for (const account of ['watched', 'other']) await endBrowsersOn(profileDir(sessions, account), 5_000);
  await rm(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
});

/** Starts an instance whose browsers may live for `ms` after its last sign of life. */
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

/** The processes of the helper: nobody else has the directory of these sessions as an argument of bash. */
async function guardians(): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(
    // A process that is gone by now is not one of them.
    pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
  );
  return lines.filter((line) => line.startsWith('bash\0') && line.includes(sessions));
}

/** How long after now the watched browser is gone, in milliseconds. */
async function goneAfter(): Promise<number> {
  const started = performance.now();
  await eventually('it is gone', async () => !(await isUp('watched')));
  return performance.now() - started;
}

// The deadlines are seconds, far from what a crowded machine makes a process wait for its turn.
it('leaves the browsers alone as long as their instance is heard of', async () => {
  await start(4_000);
  await delay(5_000);
  expect(await isUp('watched')).toBe(true);
  expect(output).not.toContain('warning');
});

it('kills the browsers of a stopped instance at the deadline, no others, and guards again when it goes on', async () => {
  await start(4_000);
  child.kill('SIGSTOP');
  const gone = await goneAfter();
  expect(gone).toBeGreaterThan(1_000);
  expect(gone).toBeLessThan(8_000);
  expect(await isUp('other')).toBe(true);

  child.kill('SIGCONT');
  await said('it was not heard of in time');
  child.kill('SIGUSR2');
  await said('again');
  expect(await isUp('watched')).toBe(true);
  child.kill('SIGSTOP');
  expect(await goneAfter()).toBeLessThan(8_000);
  expect(await isUp('other')).toBe(true);
});

it('kills the browsers of a dead instance at once, though its whole process group was killed', async () => {
  await start(60_000);
  process.kill(-child.pid!, 'SIGKILL');
  expect(await goneAfter()).toBeLessThan(8_000);
  expect(await isUp('other')).toBe(true);
});

it('kills nothing when it is closed, and is gone', async () => {
  await start(60_000);
  expect(await guardians()).toHaveLength(1);
  child.kill('SIGTERM');
  await said('closed');
  await eventually('its helper is gone', async () => (await guardians()).length === 0);
  expect(await isUp('watched')).toBe(true);
});
