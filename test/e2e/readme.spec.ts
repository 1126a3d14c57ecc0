import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findFreePorts } from '../../setup/ports.mjs';
import { Flotilla } from '../support/flotilla.js';

const project = join(import.meta.dirname, '../..');

let flotilla: Flotilla;
let readme: string;

beforeAll(async () => {
  readme = await readFile(join(project, 'README.md'), 'utf8');
  flotilla = await Flotilla.start();
});
afterAll(() => flotilla?.stop());

describe('what the README promises', () => {
  it('takes a new user from a workspace to a message that is read, with its lines typed as they stand', async () => {
    const directory = await checkoutWithEnv(flotilla);
    try {
      // The lines themselves are not touched: the .env beside them is this system's.
      const show = `printf '\\n%s\\n' "$MESSAGE" "$PHONE" "$NUMBER" "$WORKSPACE"`;
      const { code, output } = await bash(`${shellLines(readme, 'The first five minutes')}\n${show}`, {
        cwd: directory,
      });
      expect(code, output).toBe(0);
      expect(output).not.toMatch(/undefined|urn:flotilla:problem/);
      const [message, phone, number, workspaceId] = output.trim().split(/\n+/).slice(-4) as [
        string,
        string,
        string,
        string,
      ];

      const { body } = await flotilla.call('GET', `/messages/${message}?workspaceId=${workspaceId}`);
      expect(body).toMatchObject({ status: 'read', priority: 'urgent', to: phone, from: number });
      const arrived = (await flotilla.ledger()).filter(({ from, to }) => from === number && to === phone);
      expect(arrived).toEqual([
        expect.objectContaining({ whatsappId: body.whatsappId, text: body.text, duplicate: false }),
      ]);
      // What the user saw: the message that is read, the ledger's line, the answer, and the events up to it.
      expect(output).toContain(`"status":"read"`);
      expect(output).toContain(`"whatsappId":"${body.whatsappId}"`);
      expect(output).toContain('"text":"Thank you!"');
      for (const type of [
        'account.qr',
        'message.queued',
        'message.sent',
        'message.read',
        'message.received',
      ]) {
        expect(output).toContain(`event: ${type}\n`);
      }
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });
});

describe('npm run demo', () => {
  it('links, sends, checks the ledger, and says how to go on, in lines that work', async () => {
    const { code, stdout, output } = await flotilla.stack.cli('demo', '--messages', '16');
    expect(code, output).toBe(0);
    for (const name of ['Demo 1', 'Demo 2', 'Demo 3']) expect(stdout).toMatch(`  ${name}: ready as +62`);
    expect(stdout).toMatch(/│ urgent +│ +\d+ │/);
    expect(stdout).toMatch(/│ all +│ +16 │ +16 │ +16 │ +\d+ ms │/);
    expect(stdout).toContain('has each of the 16 exactly once.');

    const lines = stdout.split('\n').filter((line) => line.startsWith('curl '));
    const env = { ADMIN_API_KEY: flotilla.adminKey };
    const [removal, ...others] = [...lines].reverse();
    const answering = others.filter((line) => !line.includes('/events'));
    expect(answering).toHaveLength(4);
    for (const line of answering) {
      const answer = await bash(`${line} -f`, { env });
      expect(answer.code, line).toBe(0);
      expect(JSON.parse(answer.output)).toBeTypeOf('object');
    }
    expect(removal).toContain('-X DELETE');
    expect((await bash(`${removal} -f`, { env })).code).toBe(0);
    const workspaceId = /workspaces\/([\w-]+)/.exec(removal!)![1];
    expect((await flotilla.call('GET', `/workspaces/${workspaceId}`)).status).toBe(404);
  });

  it('leaves nothing behind when it is interrupted', async () => {
    const workspaces = async () => (await flotilla.call('GET', '/workspaces')).body.items.length as number;
    const reserved = async () =>
      (await flotilla.call('GET', '/admin/instances')).body.items.reduce(
        (sum: number, instance: { reserved: number }) => sum + instance.reserved,
        0,
      ) as number;
    const before = { workspaces: await workspaces(), reserved: await reserved() };
    const { code, output } = await bash('exec ./flotilla demo', {
      cwd: project,
      env: flotilla.stack.env,
      interruptWhen: /Demo \d: /,
    });
    expect(code, output).toBe(130);
    expect(output).toContain('Interrupted.\nThe demo has removed its workspace and its accounts.');
    expect({ workspaces: await workspaces(), reserved: await reserved() }).toEqual(before);
  });

  it('says in one sentence what to do when nothing runs', async () => {
    const PORT = String(await findFreePorts());
    const { code, output } = await bash('./flotilla demo', {
      cwd: project,
      env: { ...flotilla.stack.env, PORT },
    });
    expect(code).toBe(1);
    expect(output).toBe(
      `Flotilla does not run at http://127.0.0.1:${PORT}. Start it with npm start, in another terminal, and run the demo again.\n`,
    );
  });

  it('refuses a number of messages that makes no sense', async () => {
    const { code, output } = await flotilla.stack.cli('demo', '--messages', '3');
    expect(code).toBe(1);
    expect(output).toContain('It must be a whole number from 12 to 20000.');
  });
});

function read(path: string): Promise<string> {
  return readFile(join(project, path), 'utf8');
}

/** The lines of the ```bash blocks under a heading, as they stand. */
function shellLines(page: string, heading: string): string {
  const start = page.indexOf(`\n## ${heading}\n`);
  const section = page.slice(start, page.indexOf('\n## ', start + 1));
  const blocks = [...section.matchAll(/^```bash\n(.*?)^```$/gms)].map(([, lines]) => lines!);
  expect(blocks.length).toBeGreaterThan(3);
  return blocks.join('');
}

/** A directory like a checkout after `npm start`: its .env is made from .env.example and points at this system. */
async function checkoutWithEnv({ stack }: Flotilla): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'flotilla-readme-'));
  const example = await read('.env.example');
  const settings = Object.keys(parseEnv(example)).filter((name) => stack.env[name] !== undefined);
  const env = settings.reduce(
    (text, name) => text.replace(new RegExp(`^${name}=.*$`, 'm'), () => `${name}=${stack.env[name]}`),
    example,
  );
  await writeFile(join(directory, '.env'), env);
  return directory;
}

/** Runs shell lines as a new terminal would, with none of the test's own settings, and ends them after a minute. */
async function bash(
  lines: string,
  { cwd, env = {}, interruptWhen }: { cwd?: string; env?: Record<string, string>; interruptWhen?: RegExp },
): Promise<{ code: number | null; output: string }> {
  const { PATH, HOME } = process.env;
  const child = spawn('bash', ['-c', lines], { cwd, env: { PATH, HOME, ...env }, detached: true });
  const end = (signal: NodeJS.Signals) => process.kill(-child.pid!, signal);
  const timer = setTimeout(() => end('SIGKILL'), 90_000);
  let output = '';
  let isInterrupted = false;
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      output += chunk;
      if (!interruptWhen?.test(output) || isInterrupted) return;
      isInterrupted = true;
      end('SIGINT');
    });
  }
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject).once('close', resolve);
    });
    return { code, output };
  } finally {
    clearTimeout(timer);
  }
}
