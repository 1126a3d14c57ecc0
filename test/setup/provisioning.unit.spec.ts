import { once } from 'node:events';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sourceHash } from '../../setup/build.mjs';
import { SetupError, sentence, tail } from '../../setup/console.mjs';
import { withLock } from '../../setup/lock.mjs';
import { npmPackagesInstalled } from '../../setup/npm-packages.mjs';
import { endProcesses, isAlive, pidsWithEnvironment, run, sleep } from '../../setup/processes.mjs';
import { eventually } from '../support/eventually.js';
import { hasCandidate } from '../../setup/system-packages.mjs';

let directory: string;
beforeEach(() => void (directory = mkdtempSync(join(tmpdir(), 'setup-'))));
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe('npm packages', () => {
  const write = (file: string, packages: object) =>
    writeFileSync(join(directory, file), JSON.stringify({ packages }));
  const a = { version: '1.0.0', integrity: 'sha512-a' };

  it('are there when npm finished installing what package-lock.json names', () => {
    write('package-lock.json', {
      '': {},
      'node_modules/a': a,
      'node_modules/mac-only': { ...a, optional: true },
    });
    expect(npmPackagesInstalled(directory)).toBe(false);
    mkdirSync(join(directory, 'node_modules'));
    write('node_modules/.package-lock.json', { 'node_modules/a': a });
    expect(npmPackagesInstalled(directory)).toBe(true);
    write('node_modules/.package-lock.json', { 'node_modules/a': { ...a, version: '0.9.0' } });
    expect(npmPackagesInstalled(directory)).toBe(false);
    write('node_modules/.package-lock.json', {});
    expect(npmPackagesInstalled(directory)).toBe(false);
  });
});

describe('the build', () => {
  it('is made again when a source changes its text or its name', () => {
    mkdirSync(join(directory, 'src'));
    writeFileSync(join(directory, 'src/a.ts'), '1');
    const first = sourceHash(directory);
    writeFileSync(join(directory, 'README.md'), 'x');
    expect(sourceHash(directory)).toBe(first);
    writeFileSync(join(directory, 'src/a.ts'), '2');
    const second = sourceHash(directory);
    expect(second).not.toBe(first);
    writeFileSync(join(directory, 'tsconfig.json'), '{}');
    expect(sourceHash(directory)).not.toBe(second);
  });
});

describe('apt', () => {
  const policy =
    'chromium:\n  Installed: (none)\n  Candidate: (none)\nredis-server:\n  Installed: (none)\n  Candidate: 5:7.0.15\nfox:\n  Installed: (none)\n  Candidate: 1:1snap1-0ubuntu2\n';
  it('has a package when there is a candidate that is not a snap', () => {
    expect(['chromium', 'redis-server', 'fox', 'unknown'].map((name) => hasCandidate(policy, name))).toEqual([
      false,
      true,
      false,
      false,
    ]);
  });
});

describe('a failure', () => {
  it('is one sentence with a cure', () => {
    expect(sentence(Object.assign(new Error('x'), { code: 'ENOSPC', path: '/var' }))).toMatch(
      /^The disk that holds \/var is full\. Free/,
    );
    expect(sentence(Object.assign(new Error('x'), { code: 'EACCES', path: '/root/x' }))).toMatch(
      /^No permission for \/root\/x .* sudo chown/,
    );
    expect(sentence(new SetupError('Do this.'))).toBe('Do this.');
  });

  it('of a command shows its last lines', async () => {
    const failing = run(['sh', '-c', 'echo why >&2; exit 3'], { failure: 'It failed.' });
    await expect(failing).rejects.toMatchObject({ message: 'It failed.', detail: 'why' });
    await expect(
      run(['sh', '-c', 'echo ENOSPC: no space left on device; exit 1'], { failure: '' }),
    ).rejects.toMatchObject({ code: 'ENOSPC' });
  });

  it('shows the tail of a log', () => {
    writeFileSync(join(directory, 'log'), Array.from({ length: 5000 }, (_, n) => `line ${n}`).join('\n'));
    expect(tail(join(directory, 'log'), 2)).toBe('line 4998\nline 4999');
    expect(tail(join(directory, 'none'))).toBe('');
  });
});

describe('the set-up lock', () => {
  it('lets one in at a time, and outlives nobody', async () => {
    const file = join(directory, 'lock');
    const order: string[] = [];
    const work = (name: string) =>
      withLock(file, async () => {
        order.push(`${name} in`);
        await sleep(20);
        order.push(`${name} out`);
      });
    await Promise.all([work('a'), work('b')]);
    expect(order).toHaveLength(4);
    expect(order[1]?.[0]).toBe(order[0]?.[0]);
    expect(existsSync(file)).toBe(false);

    writeFileSync(file, '4194304'); // a process that is gone
    await work('c');
    expect(order.at(-1)).toBe('c out');
  });
});

describe('processes', () => {
  it('are found by what they were started with, and ended', async () => {
    const child = spawn(
      process.execPath,
      [
        '-e',
        "process.on('SIGTERM', () => {}); setInterval(() => {}, 1000); console.log('SIGTERM is ignored')",
      ],
      {
        env: { ...process.env, FLOTILLA_SPEC: directory },
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    );
    const pid = child.pid ?? 0;
    await eventually('it is found', () => {
      expect(pidsWithEnvironment('FLOTILLA_SPEC', directory)).toEqual([pid]);
      return true;
    });
    await once(child.stdout, 'data');
    await endProcesses([pid], { graceMs: 200 });
    expect(isAlive(pid)).toBe(false);
  });
});
