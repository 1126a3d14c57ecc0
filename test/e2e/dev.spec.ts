import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isolatedEnvironment, makeTemporaryDirectory, withoutOwnNames } from '../../setup/isolated.mjs';
import { isAlive } from '../../setup/processes.mjs';
import { SupervisorClient, supervisordPaths } from '../../setup/supervisord.mjs';
import { descendantsOf } from '../support/processes.js';
import { eventually } from '../support/eventually.js';

const project = join(import.meta.dirname, '../..');
/** A file that no program but the API reads. */
const apiOnly = 'src/roles/api.document.ts';

let checkout: string;
let dev: ChildProcess;
let output = '';
let environment: Record<string, string>;

/** Waits for this text in the output from a place on; gives its groups. */
async function printed(text: RegExp, from = 0, timeoutMs = 60_000): Promise<RegExpExecArray> {
  try {
    return await eventually(String(text), () => Promise.resolve(text.exec(output.slice(from))), timeoutMs);
  } catch (error) {
    throw new Error(`${String(error)}; printed:\n${output}`);
  }
}

/** Changes a file of the checkout, and gives the place in the output where what follows begins. */
function edit(path: string, change: (text: string) => string): number {
  const place = output.length;
  const before = readFileSync(join(checkout, path), 'utf8');
  const after = change(before);
  expect(after).not.toBe(before);
  writeFileSync(join(checkout, path), after);
  return place;
}

async function pids(): Promise<Record<string, number>> {
  const client = new SupervisorClient(supervisordPaths(environment.VAR_DIR!).socket);
  const programs = (await client.processes()).filter(({ group }) => group === 'flotilla');
  return Object.fromEntries(programs.map(({ name, pid }) => [name, pid]));
}

const title = async (): Promise<unknown> => {
  const document = await (await fetch(`http://127.0.0.1:${environment.PORT}/openapi.json`)).json();
  return (document as { info: { title: string } }).info.title;
};

beforeAll(async () => {
  checkout = makeTemporaryDirectory(undefined, 'flotilla-dev-');
  const left = /^\/(node_modules|var|\.git|\.env|clients\/typescript\/dist)(\/|$)/;
  cpSync(project, checkout, { recursive: true, filter: (path) => !left.test(path.slice(project.length)) });
  symlinkSync(join(project, 'node_modules'), join(checkout, 'node_modules'));
  environment = {
    ...(await isolatedEnvironment({ varDir: join(checkout, 'var'), instances: 1 })),
    PROGRAMS: 'api,worker,instance',
  };
  dev = spawn('npm', ['run', 'dev', '--', '--inspect', 'instance'], {
    cwd: checkout,
    env: { ...withoutOwnNames(process.env), ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  for (const stream of [dev.stdout, dev.stderr])
    stream?.setEncoding('utf8').on('data', (text: string) => (output += text));
  await printed(/src is watched/, 0, 170_000);
}, 180_000);
afterAll(async () => {
  if (dev && dev.exitCode === null) {
    const ended = new Promise((resolve) => dev.once('exit', resolve));
    dev.kill('SIGTERM');
    await ended;
  }
  if (checkout) rmSync(checkout, { recursive: true, force: true });
});

describe('npm run dev', () => {
  it('opens the inspector of the program that it is told to', async () => {
    const [, name, address] = await printed(/inspector of (\S+) listens on (127\.0\.0\.1:\d+)/);
    expect(name).toBe('instance_00');
    const version = await (await fetch(`http://${address}/json/version`)).json();
    expect(version).toMatchObject({ Browser: `node.js/${process.version}` });
    const [target] = (await (await fetch(`http://${address}/json/list`)).json()) as { url: string }[];
    expect(target?.url).toBe(`file://${checkout}/dist/src/roles/instance.main.js`);
  });

  it('restarts nothing when the build fails; when it is corrected, the one program that reads the file', async () => {
    const before = await pids();
    expect(Object.keys(before).sort()).toEqual(['api', 'instance_00', 'worker_00']);
    const wrong = `\nexport const wrong: number = 'text';\n`;
    const place = edit(
      apiOnly,
      (text) => text.replace(`setTitle('Flotilla')`, `setTitle('Changed')`) + wrong,
    );
    await printed(/api\.document\.ts:\d+:\d+ - error TS2322/, place);
    await printed(/The build failed .* no program is restarted/, place);
    expect(await pids()).toEqual(before);

    const next = edit(apiOnly, (text) => text.replace(wrong, ''));
    await printed(/rebuilt in \d+\.\d s; restarted api \(\d+\.\d s after the save\)/, next);
    const { api, ...others } = await pids();
    expect({ ...others, api: before.api }).toEqual(before);
    expect(api).not.toBe(before.api);
    expect(await title()).toBe('Changed');
    await printed(/^\d\d:\d\d:\d\d api {9}INFO {2}listening host=127\.0\.0\.1 port=\d+$/m, next);
  });

  it('says that it is to be started again when set-up changes', async () => {
    const place = edit('supervisor/flotilla.conf', (text) => `${text}\n`);
    await printed(/supervisor\/flotilla\.conf changed: restart npm run dev/, place);
  });

  it('ends with all that it started', async () => {
    const started = await descendantsOf(dev.pid!);
    expect(started.length).toBeGreaterThan(5);
    const code = new Promise((resolve) => dev.once('exit', resolve));
    dev.kill('SIGINT');
    expect(await code, output).toBe(0);
    expect(output).toContain('Nothing is left running');
    expect(started.filter(isAlive)).toEqual([]);
  });
});
