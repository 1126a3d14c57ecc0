import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { operations } from '../support/documented.js';
import { eventually } from '../support/eventually.js';
import { Flotilla } from '../support/flotilla.js';

const project = join(import.meta.dirname, '../..');

let flotilla: Flotilla;
let page: string;
let directory: string;

beforeAll(async () => {
  page = await readFile(join(project, 'docs/quick-start.md'), 'utf8');
  directory = await mkdtemp(join(tmpdir(), 'flotilla-quick-start-'));
  flotilla = await Flotilla.start({ instances: 1 });
});
afterAll(async () => {
  await flotilla?.stop();
  await rm(directory, { recursive: true, force: true });
});

describe('docs/quick-start.md', () => {
  it('leads to a delivered message with curl', async () => {
    const { ADMIN_API_KEY, PORT, SANDBOX_CONTROL_PORT } = flotilla.stack.env;
    const env = Object.entries({ ADMIN_API_KEY, PORT, SANDBOX_CONTROL_PORT });
    await writeFile(join(directory, '.env'), env.map(([name, value]) => `${name}=${value}\n`).join(''));
    const lines = [...page.matchAll(/^```bash\n(.*?)^```$/gms)].map(([, block]) => block!).join('');
    const { code, output } = await run('bash', ['-c', `${lines}\necho "$ID $PHONE $WORKSPACE"`]);
    expect(code, output).toBe(0);
    const [id, phone, workspaceId] = output.trim().split('\n').at(-1)!.split(' ');
    const { body } = await flotilla.call('GET', `/messages/${id}?workspaceId=${workspaceId}`);
    expect(['delivered', 'read']).toContain(body.status);
    // The two calls with one key were one message.
    expect((await flotilla.ledger()).filter(({ to }) => to === phone)).toHaveLength(1);
    expect(output).toContain('"code":"validation.failed"');
    expect(output).toContain('event: message.delivered');
  });

  it('leads to a read message with TypeScript', async () => {
    const source = /^```ts quick-start\n(.*?)^```$/ms.exec(page)![1]!;
    await writeFile(join(directory, 'quick-start.ts'), source);
    await build({
      entryPoints: [join(directory, 'quick-start.ts')],
      outfile: join(directory, 'quick-start.mjs'),
      bundle: true,
      format: 'esm',
      platform: 'node',
      alias: { '@flotilla/client': join(project, 'clients/typescript/src/index.ts') },
      logLevel: 'error',
    });
    const phone = await flotilla.newPhone();
    const { code, output } = await run(process.execPath, [join(directory, 'quick-start.mjs')], {
      FLOTILLA_URL: flotilla.stack.urls.api,
      ADMIN_API_KEY: flotilla.adminKey,
      TO: `+${phone}`,
    });
    expect(code, output).toBe(0);
    expect(output).toMatch(/account\.status ready[\s\S]*message\.read read[\s\S]*validation\.failed/);
    expect(output.trim().split('\n').at(-1)).toBe(`${phone} read`);
    expect((await flotilla.ledger()).filter(({ to }) => to === phone)).toHaveLength(1);
  });
});

describe('docs/reads.md', () => {
  it('has lines that work as they stand, after the first five minutes', async () => {
    const reads = await readFile(join(project, 'docs/reads.md'), 'utf8');
    const blocks = [...reads.matchAll(/^```bash\n(.*?)^```$/gms)].map(([, block]) => block!);
    expect(blocks.length).toBeGreaterThan(2);
    const workspace = await flotilla.newWorkspace();
    const [account] = await workspace.linkedAccounts(1);
    const { phone } = await flotilla.sandbox('POST', '/phones', { name: 'Reader' });
    const text = 'hello';
    await flotilla.sandbox('POST', `/phones/${phone}/messages`, { to: account!.phoneNumber, text });
    await eventually(
      'received',
      async () => (await workspace.call('GET', '/messages?direction=incoming')).body.items.length === 1,
    );
    const picture =
      'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
    await flotilla.sandbox('PATCH', `/phones/${phone}`, { picture });
    const readme = await readFile(join(project, 'README.md'), 'utf8');
    const field = /^field\(\) .*$/m.exec(readme)![0];
    const variables = Object.entries({
      API: `${flotilla.stack.urls.api}/api/v1`,
      AUTH: `authorization: Bearer ${workspace.key}`,
      JSON: 'content-type: application/json',
      ACCOUNT: account!.id,
      PHONE: phone,
    }).map(([name, value]) => `${name}='${value}'`);
    const lines = [...variables, field, 'set -e', ...blocks].join('\n');
    const { code, output } = await run('bash', [
      '-c',
      lines.replace(/curl -s(?= )/g, 'curl -sS --fail-with-body'),
    ]);
    expect(code, output).toBe(0);
    expect(output).toContain(`"phone":"${phone}","registered":true`);
    expect(output).not.toContain('no picture');
    expect(output).toContain('"text":"hello"');
    expect(output).toContain('"description":"Mondays"');
    expect(output).toContain('https://chat.whatsapp.com/');
    expect(output).toMatch(/"text":"Hello, choir"/);
  });
});

describe('docs/coming-from.md', () => {
  it('names only calls that there are', async () => {
    const text = await readFile(join(project, 'docs/coming-from.md'), 'utf8');
    const cells = text
      .split('\n')
      .flatMap((line) => (line.startsWith('|') ? [line.split('|')[2] ?? ''] : []));
    const named = cells.flatMap((cell) => [...cell.matchAll(/`(GET|POST|PUT|PATCH|DELETE) (\/[^\s`?]+)/g)]);
    expect(named.length).toBeGreaterThan(30);
    const known = new Set(operations.map(({ method, path }) => `${method} ${path.replace(/\{\w+\}/g, ':')}`));
    const unknown = named
      .map(([, method, path]) => `${method} /api/v1${path!.replace(/:\w+/g, ':')}`)
      .filter((call) => !known.has(call));
    expect(unknown).toEqual([]);
  });
});

/** Runs a program in the directory, with nothing of the test's own settings, and ends it after 90 seconds. */
function run(
  program: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<{ code: number | null; output: string }> {
  const { PATH, HOME } = process.env;
  const child = spawn(program, args, { cwd: directory, env: { PATH, HOME, ...env }, detached: true });
  const timer = setTimeout(() => process.kill(-child.pid!, 'SIGKILL'), 90_000);
  let output = '';
  child.stdout.on('data', (text: Buffer) => (output += text.toString()));
  child.stderr.on('data', (text: Buffer) => (output += text.toString()));
  return new Promise((resolve, reject) => {
    child.once('error', reject).once('close', (code) => {
      clearTimeout(timer);
      resolve({ code, output });
    });
  });
}
