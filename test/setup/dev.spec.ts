import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { assetFilter, copyAssets } from '../../setup/assets.mjs';
import { reportedState } from '../../setup/compilers.mjs';
import { changedFiles, concernedPrograms, readCompiled, removeOutdated } from '../../setup/dependencies.mjs';
import { inspectedProcess, processesOf } from '../../setup/dev.mjs';
import { followLogs, formatLogLine } from '../../setup/logs.mjs';
import { readSettings } from '../../setup/settings.mjs';
import { renderPrograms, withInspector } from '../../setup/supervisord.mjs';

let directory: string;
beforeEach(() => void (directory = mkdtempSync(join(tmpdir(), 'dev-'))));
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function write(path: string, content = ''): void {
  const file = join(directory, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
}

describe('the programs that a change concerns', () => {
  const programs = ['sandbox', 'worker', 'api'];

  beforeEach(() => {
    write('src/roles/api.main.js', `import 'reflect-metadata';\nimport { a } from '../a/a.js';\n`);
    write('src/roles/worker.main.js', `const { b } = await import('../a/b.js');\n`);
    write('src/roles/sandbox.main.js', `export * from '../sandbox/wire/server.js';\n`);
    write('src/a/a.js', `import { shared } from "./shared.js";\n`);
    write('src/a/b.js', `import { shared } from './shared.js';\n`);
    write('src/a/shared.js', `import { a } from './a.js';\n`);
    write('src/a/unused.js');
    write('src/sandbox/wire/server.js', `const PAGE = join(projectRoot, 'dist/src/sandbox/page');\n`);
    write('src/sandbox/page/index.html', '<p>1</p>');
    write('src/whatsapp/guardian.sh');
  });

  /** The programs that are concerned after these files got this content. */
  function after(changes: Record<string, string>): string[] {
    const before = readCompiled(directory);
    for (const [path, content] of Object.entries(changes)) write(path, content);
    const files = readCompiled(directory);
    return concernedPrograms(programs, changedFiles(before, files), files);
  }

  it('are those that import a changed file, statically or dynamically, also in a circle', () => {
    expect(after({ 'src/a/b.js': '// changed' })).toEqual(['worker']);
    expect(after({ 'src/a/a.js': `import { shared } from './shared.js'; // changed` })).toEqual(['api']);
    expect(after({ 'src/a/shared.js': '// changed' })).toEqual(['api']);
    expect(after({ 'src/roles/api.main.js': '// changed' })).toEqual(['api']);
  });

  it('are all that share the file', () => {
    expect(after({ 'src/a/shared.js': `import { a } from './a.js'; // changed` })).toEqual(['worker', 'api']);
  });

  it('are none when nobody imports the file, or its content is the same', () => {
    expect(after({ 'src/a/unused.js': '// changed' })).toEqual([]);
    expect(after({ 'src/a/shared.js': `import { a } from './a.js';\n` })).toEqual([]);
    expect(after({ 'src/a/a.js.map': '{}' })).toEqual([]);
  });

  it('are those that read a directory in which a file changes, comes or goes', () => {
    expect(after({ 'src/sandbox/page/index.html': '<p>2</p>' })).toEqual(['sandbox']);
    expect(after({ 'src/sandbox/page/new.js': '' })).toEqual(['sandbox']);
    expect(
      after({
        'src/roles/api.main.js': `spawn('bash', [join(import.meta.dirname, '../whatsapp/guardian.sh')]);\n`,
      }),
    ).toEqual(['api']);
    expect(after({ 'src/whatsapp/guardian.sh': 'exit' })).toEqual(['api']);
  });
});

describe('dist', () => {
  it('loses what has no source any more', () => {
    write('src/kept.ts');
    write('src/page/index.html');
    for (const path of [
      'src/kept.js',
      'src/kept.js.map',
      'src/page/index.html',
      'src/page/gone.html',
      'migrations/1-gone.js',
      'migrations/1-gone.js.map',
      'programs/api.mjs',
    ])
      write(`dist/${path}`);
    removeOutdated(directory);
    expect(readdirSync(join(directory, 'dist/migrations'))).toEqual([]);
    expect(readdirSync(join(directory, 'dist/src'))).toEqual(['kept.js', 'kept.js.map', 'page']);
    expect(readdirSync(join(directory, 'dist'))).toContain('programs');
  });
});

describe('assets', () => {
  const copy = (path: string) => readFileSync(join(directory, 'dist/src', path), 'utf8');

  it('are copied when they are new or different, and when an editor has replaced them', () => {
    const assets = [{ include: 'page/**/*', exclude: 'page/**/*.ts' }, 'a/guard.sh'];
    write('nest-cli.json', JSON.stringify({ compilerOptions: { assets } }));
    const isAsset = assetFilter(directory);
    for (const path of ['page/index.html', 'page/deep/a.css', 'page/main.ts', 'a/guard.sh', 'a/guardXsh'])
      write(`src/${path}`, '1');
    expect(copyAssets(directory, isAsset)).toBe(true);
    expect(readdirSync(join(directory, 'dist/src'), { recursive: true }).sort()).toEqual([
      'a',
      'a/guard.sh',
      'page',
      'page/deep',
      'page/deep/a.css',
      'page/index.html',
    ]);
    expect(copyAssets(directory, isAsset)).toBe(false);

    rmSync(join(directory, 'src/page/index.html'));
    expect(copyAssets(directory, isAsset)).toBe(false);
    write('src/page/index.html', '2');
    expect(copyAssets(directory, isAsset)).toBe(true);
    expect(copy('page/index.html')).toBe('2');
  });
});

describe('the compiler', () => {
  it('says when it works, has built and has failed', () => {
    expect(reportedState('09:15:01 - Starting compilation in watch mode...')).toBe('busy');
    expect(reportedState('9:15:01 PM - File change detected. Starting incremental compilation...')).toBe(
      'busy',
    );
    expect(reportedState('09:15:02 - Found 0 errors. Watching for file changes.')).toBe('built');
    expect(reportedState('09:15:02 - Found 1 error. Watching for file changes.')).toBe('failed');
    expect(reportedState('09:15:02 - Found 10 errors. Watching for file changes.')).toBe('failed');
    expect(reportedState('src/a.ts:1:7 - error TS2322: Found 0 errors.')).toBeUndefined();
  });
});

describe('the processes of programs', () => {
  const info = { exitstatus: 0, spawnerr: '', stdout_logfile: '', pid: 1 };
  const process = (name: string, statename = 'RUNNING', group = 'flotilla') => ({
    ...info,
    group,
    name,
    statename,
  });

  it('are all of a number, but not those that were stopped by hand', () => {
    const processes = [
      process('api'),
      process('worker_00', 'STOPPED'),
      process('worker_01', 'BACKOFF'),
      process('redis', 'RUNNING', 'flotilla-data'),
    ];
    expect(processesOf(['api', 'worker', 'redis'], processes)).toEqual(['api', 'worker_01']);
    expect(processesOf(['instance'], processes)).toEqual([]);
  });
});

describe('--inspect', () => {
  const settings = readSettings({
    environment: { ENV_FILE: 'none', INSTANCES: '2', WORKERS: '1', PROGRAMS: 'api,worker,instance' },
  });
  const config = renderPrograms({
    project: '/srv/flotilla',
    user: 'me',
    home: '/home/me',
    logDir: '/srv/log',
    instances: 2,
    workers: 1,
    autostart: false,
  });
  const commandOf = (text: string, section: string) =>
    /^command=(.*)$/m.exec(text.split(`[program:${section}]`)[1] ?? '')?.[1];

  it('names a program, the first of several, or one by number', async () => {
    expect(await inspectedProcess('api', settings)).toMatchObject({ program: 'api', number: 0 });
    expect(await inspectedProcess('instance', settings)).toMatchObject({ program: 'instance', number: 0 });
    const { program, number, address } = await inspectedProcess('instance_01', settings);
    expect([program, number]).toEqual(['instance', 1]);
    expect(address).toMatch(/^127\.0\.0\.1:9[23]\d\d$/);
  });

  it.each(['', 'instance_02', 'api_01', 'sandbox', 'constructor', 'instance 1'])(
    'refuses "%s" and names what there is',
    async (text) => {
      await expect(inspectedProcess(text, settings)).rejects.toThrow(/Name one of instance, worker, api/);
    },
  );

  it('opens an inspector in that process alone, on the files that have source maps', () => {
    const inspected = withInspector(config, { program: 'instance', number: 1, address: '127.0.0.1:9229' });
    expect(commandOf(inspected, 'flotilla-instance-0')).toBe(commandOf(config, 'flotilla-instance'));
    expect(commandOf(inspected, 'flotilla-instance-1')).toBe(
      `"${process.execPath}" --inspect=127.0.0.1:9229 --enable-source-maps dist/src/roles/instance.main.js`,
    );
    expect(inspected.match(/--inspect/g)).toHaveLength(1);
    expect(inspected.match(/^numprocs_start=\d$/gm)).toEqual(['numprocs_start=0', 'numprocs_start=1']);
    expect(/^programs=(.*)$/m.exec(inspected)?.[1]).toBe(
      'flotilla-sandbox,flotilla-instance-0,flotilla-instance-1,flotilla-worker,flotilla-scheduler,flotilla-api',
    );
  });

  it('changes one line for a program with one process', () => {
    const inspected = withInspector(config, { program: 'api', number: 0, address: '127.0.0.1:9230' });
    const lines = config.split('\n');
    expect(inspected.split('\n').filter((line, n) => line !== lines[n])).toEqual([
      `command="${process.execPath}" --inspect=127.0.0.1:9230 --enable-source-maps dist/src/roles/api.main.js`,
    ]);
  });
});

describe('a line of a log', () => {
  const now = new Date(2026, 0, 2, 3, 4, 5);
  const format = (record: object | string) =>
    formatLogLine('worker_00', typeof record === 'string' ? record : JSON.stringify(record), { now });
  const base = { level: 'info', time: now.toISOString(), role: 'worker', pid: 7 };

  it('is time, program, level, message and the rest as key=value', () => {
    expect(
      format({ ...base, accountId: 'a-1', ms: 3, names: ['x'], note: 'two words', msg: 'a send\nended' }),
    ).toBe('03:04:05 worker_00   INFO  a send\\nended accountId=a-1 ms=3 names=["x"] note="two words"');
  });

  it('has the stack of an error below it, and of its cause', () => {
    const cause = { type: 'Error', message: 'refused', stack: 'Error: refused\n    at b (b.ts:2:1)' };
    const err = {
      type: 'Error',
      message: 'broken',
      code: 'E1',
      stack: 'Error: broken\n    at a (a.ts:1:1)',
      cause,
    };
    expect(format({ ...base, level: 'error', err, msg: 'it failed' }).split('\n')).toEqual([
      '03:04:05 worker_00   ERROR it failed err.code=E1',
      '    Error: broken',
      '        at a (a.ts:1:1)',
      '    caused by Error: refused',
      '        at b (b.ts:2:1)',
    ]);
    expect(format({ ...base, err: { type: 'TypeError', message: 'no stack' }, msg: 'm' })).toContain(
      '\n    TypeError: no stack',
    );
    expect(format({ ...base, err: null, msg: 'm' })).not.toContain('\n');
  });

  it('is as it stands when it is no record', () => {
    for (const text of ['Debugger listening on ws://x', '{"half":', '{"level":30}', 'null'])
      expect(format(text)).toBe(`03:04:05 worker_00   ${text}`);
  });
});

describe('the logs', () => {
  it('are followed from their present end on, through a rotation, line by line', async () => {
    write('api.log', 'old\n');
    const printed: string[] = [];
    const end = followLogs(
      [
        { name: 'api', file: join(directory, 'api.log') },
        { name: 'later', file: join(directory, 'later.log') },
      ],
      (text) => printed.push(text.slice(9).trim()),
    );
    writeFileSync(join(directory, 'api.log'), 'one\nha', { flag: 'a' });
    await expect.poll(() => printed).toEqual(['api         one']);
    writeFileSync(join(directory, 'api.log'), 'lf\n', { flag: 'a' });
    renameSync(join(directory, 'api.log'), join(directory, 'api.log.1'));
    write('api.log', 'two\n');
    write('later.log', 'first\n');
    await expect.poll(() => printed.length).toBe(4);
    writeFileSync(join(directory, 'api.log'), 'last\n', { flag: 'a' });
    end();
    expect(printed).toEqual([
      'api         one',
      'api         half',
      'api         two',
      'later       first',
      'api         last',
    ]);
  });
});
