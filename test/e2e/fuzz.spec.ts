import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import pLimit from 'p-limit';
import pg from 'pg';
import { Agent, getGlobalDispatcher, setGlobalDispatcher } from 'undici';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { operationOf, undocumented } from '../support/documented.js';
import { eventually } from '../support/eventually.js';
import { Flotilla } from '../support/flotilla.js';
import { curlOf, type FuzzRequest, fuzzRequests, seeded } from '../support/fuzz-requests.js';
import { makeTenants, type Tenants } from '../support/tenants.js';

/** `npm run fuzz -- --requests N --seed N` sets these. */
const count = Number(process.env.FUZZ_REQUESTS ?? 500);
const seed = Number(process.env.FUZZ_SEED ?? 20_261_125);
/** How many requests go to the same workspace. */
const partSize = 500;
const atOnce = 8;
const hangMs = 5_000;
const maxGrowthBytes = 250 * 2 ** 20;

let flotilla: Flotilla;
let database: pg.Client;
let bystanders: Tenants;
const usualDispatcher = getGlobalDispatcher();

beforeAll(async () => {
  // Connections of the tests' own would be counted as left.
  setGlobalDispatcher(new Agent({ keepAliveTimeout: 10, keepAliveMaxTimeout: 10 }));
  flotilla = await Flotilla.start({
    programs: ['api'],
    env: { RATE_LIMIT_PER_KEY: '0', RATE_LIMIT_PER_WORKSPACE: '0' },
  });
  database = new pg.Client({ connectionString: flotilla.stack.env.DATABASE_URL });
  await database.connect();
  bystanders = await makeTenants(flotilla);
});
afterAll(async () => {
  setGlobalDispatcher(usualDispatcher);
  await database?.end();
  await flotilla?.stop();
});

interface Answer {
  status: number;
  type: string | null;
  head: string;
  body: string;
  ms: number;
}

it(
  `${count} requests that nobody would make (seed ${seed}) break nothing`,
  async () => {
    const api = new URL(flotilla.stack.urls.api);
    const random = seeded(seed);
    const findings: string[] = [];
    const statuses = new Map<number, number>();
    const before = { bystanders: await rowsOf(bystanders), memory: await memory() };

    const limit = pLimit(atOnce);
    for (let first = 0; first < count; first += partSize) {
      // A part may delete its workspace. The next part would only meet closed doors.
      const next = fuzzRequests(random, await makeTenants(flotilla), bystanders, flotilla.adminKey);
      const known = await ids();
      const made = new Set<string>();
      const requests = Array.from({ length: Math.min(partSize, count - first) }, next);
      await Promise.all(
        requests.map((request, number) =>
          limit(async () => {
            const complain = (what: string) =>
              findings.push(
                `#${first + number} of seed ${seed}, as ${request.who}: ${what}\n  ${curlOf(request, api.origin)}`,
              );
            const answer = await send(api, request).catch((error: unknown) => complain(String(error)));
            if (typeof answer !== 'object') return;
            statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1);
            for (const problem of judge(request, answer)) complain(problem);
            if (answer.status < 300) for (const [, id] of answer.body.matchAll(named)) made.add(id!);
          }),
        ),
      );
      const unexplained = [...(await ids())].filter((id) => !known.has(id) && !made.has(id));
      expect(unexplained, 'rows of which no answer told').toEqual([]);
    }

    expect(findings.slice(0, 20), findings.slice(0, 20).join('\n')).toEqual([]);
    expect(await rowsOf(bystanders), 'rows of a workspace that nobody was to touch').toEqual(
      before.bystanders,
    );
    expect((await flotilla.call('GET', '/health/ready')).status).toBe(200);
    await eventually('no connection is left', async () => (await connections(Number(api.port))) === 0);
    expect(await memory()).toBeLessThan(before.memory + maxGrowthBytes);
    // A run that only meets closed doors proves nothing.
    expect([...statuses.keys()].sort()).toEqual(expect.arrayContaining([200, 400, 401, 403, 404]));
    expect(
      [201, 202, 204].some((status) => statuses.has(status)),
      'something was changed',
    ).toBe(true);
    const grown = ((await memory()) - before.memory) / 2 ** 20;
    process.stdout.write(
      `${count} requests, seed ${seed}: ${[...statuses]
        .sort()
        .map(([status, times]) => `${status}×${times}`)
        .join(' ')}; memory +${grown.toFixed(0)} MiB\n`,
    );
  },
  60_000 + count * 100,
);

/** What an answer tells of: servers have names for ids. */
const named = /"(?:id|\w+Id)":"([^"]+)"/g;

/** Sends bytes as they are: a client library would refuse half of this. */
async function send(api: URL, { method, path, headers, body }: FuzzRequest): Promise<Answer> {
  const started = performance.now();
  const socket = connect(Number(api.port), api.hostname);
  const bytes = body === undefined ? undefined : Buffer.from(body);
  const all: [string, string][] = [['Host', api.host], ['Connection', 'close'], ...headers];
  if (bytes !== undefined || method !== 'GET') all.push(['Content-Length', String(bytes?.length ?? 0)]);
  const head = [
    `${method} ${path} HTTP/1.1`,
    ...all.map(([name, value]) => `${name}: ${value}`),
    '',
    '',
  ].join('\r\n');
  let text = '';
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(hangMs) });
    // Some answers come before the body is there, and end the connection.
    socket.on('error', () => undefined);
    socket.write(Buffer.from(head, 'latin1'));
    if (bytes) socket.write(bytes);
    const ended = new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`no answer within ${hangMs} ms: ${text.slice(0, 300)}`)),
        hangMs,
      );
      const done = () => {
        clearTimeout(timer);
        resolve();
      };
      socket.on('data', (chunk: Buffer) => {
        text += chunk.toString('utf8');
        // A stream of events does not end.
        if (
          /^(HTTP\/1\.1 100 Continue\r\n\r\n)?HTTP\/1\.1 200[\s\S]*text\/event-stream[\s\S]*\r\n\r\n/.test(
            text,
          )
        )
          done();
      });
      socket.once('close', done);
    });
    await ended;
  } finally {
    socket.destroy();
  }
  const [top = '', ...rest] = text.replace(/^HTTP\/1\.1 100 Continue\r\n\r\n/, '').split('\r\n\r\n');
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(top)?.[1] ?? 0);
  if (status === 0) throw new Error(`no HTTP answer: ${JSON.stringify(text.slice(0, 200))}`);
  const type = /^content-type: (.*)$/im.exec(top)?.[1]?.trim() ?? null;
  return { status, type, head: top, body: rest.join('\r\n\r\n'), ms: performance.now() - started };
}

function* judge({ method, path }: FuzzRequest, { status, type, head, body, ms }: Answer): Generator<string> {
  if (status >= 500) yield `${status}: ${body.slice(0, 500)}`;
  if (ms > hangMs) yield `it took ${Math.round(ms)} ms`;
  if (/^x-injected:/im.test(head)) yield 'a header was injected';
  if (method === 'HEAD' || status < 400) return;
  // Bull Board and Swagger UI have pages of their own.
  if (!type?.startsWith('application/problem+json')) {
    yield `${status} as ${type}, which is no problem+json: ${body.slice(0, 200)}`;
    return;
  }
  const problem = JSON.parse(body) as { status?: number; code?: string };
  if (problem.status !== status) yield `the status is ${status} and the body says ${problem.status}`;
  const isOfRoute = /^(route|request)\./.test(problem.code ?? '');
  const operation = operationOf(method, path);
  if (operation && !isOfRoute) {
    const unknown = undocumented(operation, { status, type, body: problem });
    if (unknown) yield unknown;
  }
}

/** Everything that the bystanders have, as PostgreSQL writes it; who used their keys when does not count. */
async function rowsOf({ first }: Tenants): Promise<Record<string, string>> {
  const { rows: tables } = await database.query<{ table_name: string }>(
    `select c.table_name from information_schema.columns c join information_schema.tables t using (table_schema, table_name)
     where c.table_schema = 'public' and c.column_name = 'workspace_id' and t.table_type = 'BASE TABLE' order by 1`,
  );
  const found: Record<string, string> = {};
  for (const { table_name: table } of tables) {
    const { rows } = await database.query<{ all: string }>(
      `select coalesce(string_agg((to_jsonb(t) - 'last_used_at')::text, E'\\n' order by t::text), '') as all from ${table} t where workspace_id = $1`,
      [first.id],
    );
    found[table] = rows[0]!.all;
  }
  return found;
}

/** The ids of everything that a request may make. */
async function ids(): Promise<Set<string>> {
  const { rows } = await database.query<{ id: string }>(
    `select id::text from workspaces union all select id::text from api_keys union all select id::text from accounts
     union all select id::text from messages union all select id::text from webhooks union all select id::text from media
     union all select id from servers`,
  );
  return new Set(rows.map(({ id }) => id));
}

async function memory(): Promise<number> {
  const pid = (await flotilla.stack.status()).get('flotilla:api')!.pid;
  return Number(/^VmRSS:\s+(\d+)/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))![1]) * 1024;
}

/** How many connections to a port of this machine are open. */
async function connections(port: number): Promise<number> {
  const table = await readFile('/proc/net/tcp', 'utf8');
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return table
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, address, , state]) => address?.endsWith(local) && state === '01').length;
}
