/**
 * Fairness: 50 accounts have a backlog, half of all of it one of them, and for a while it is counted what each sends; first all
 * of one workspace, then of two of unequal size, which are to get the same. The instance is real but for its browsers (sending-instance.mjs), so that 50 accounts fit onto a small machine.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createStack } from '../setup/stack.mjs';
import { holdCampaigns, insertBacklog, withDatabase } from './backlog.mjs';
import { call, eventually } from './fleet.mjs';

const ofOneWorkspace = [50];
const ofTwoWorkspaces = [40, 10];
/** Enough that no lane runs empty while it is counted. */
const backlog = 200_000;
/** The first seconds are not counted: queues fill. */
const warmUpMs = 5_000;
const windowMs = 20_000;

/** @param {{ log: (text: string) => void }} options */
export async function fairness({ log }) {
  const accounts = await measure(ofOneWorkspace, {}, log);
  // A lane sends one message at a time: with few slots ten lanes can carry the half that is theirs.
  const workspaces = await measure(ofTwoWorkspaces, { WORKER_CONCURRENCY: '8' }, log);
  return { accounts, workspaces, rows: rowsOf(accounts, workspaces) };
}

/**
 * @param {number[]} workspaces how many accounts each has
 * @param {Record<string, string>} env @param {(text: string) => void} log
 */
async function measure(workspaces, env, log) {
  const programs = ['sandbox', 'worker', 'scheduler', 'api'];
  const stack = await createStack({ instances: 1, programs, env });
  /** @type {import('node:child_process').ChildProcess | undefined} */
  let instance;
  try {
    await stack.start();
    instance = fork(join(import.meta.dirname, 'sending-instance.mjs'), {
      // No browser is started, but one has to be there.
      env: {
        ...process.env,
        ...stack.env,
        SERVER_ID: 'bench',
        LOG_LEVEL: 'warn',
        CHROMIUM_PATH: process.execPath,
      },
    });
    await Promise.race([
      once(instance, 'message'),
      once(instance, 'exit').then(() => Promise.reject(new Error('the simulated instance ended'))),
    ]);
    const accounts = await connectAccounts(stack, workspaces);
    log(`${accounts.length} accounts of ${workspaces.length} workspaces are ready`);
    const [first, ...others] = accounts.map(({ id }) => id);
    await insertBacklog(stack.env.DATABASE_URL, {
      // As often as all others together.
      accounts: [...others.map(() => first), ...others],
      count: backlog,
      phone: '628120000000',
    });
    log(`${backlog} campaign messages wait, half of them on one account`);
    await delay(warmUpMs);
    const sent = await sentWithin(stack.env.DATABASE_URL, windowMs);
    if (sent.size === 0) throw new Error('Nothing was sent: the simulated instance does not answer.');
    const counts = accounts.map(({ id }) => sent.get(id) ?? 0);
    const ofWorkspaces = workspaces.map((_size, number) =>
      accounts.reduce((sum, { workspace }, index) => sum + (workspace === number ? counts[index] : 0), 0),
    );
    const leftOfTheShortest = await shortestBacklog(stack.env.DATABASE_URL);
    if (leftOfTheShortest === 0)
      throw new Error('A lane ran empty while it was counted: nothing can be said.');
    // Nothing is sent any more when the instance stops.
    await holdCampaigns(stack.env.DATABASE_URL);
    return {
      workspaces,
      backlog,
      leftOfTheShortest,
      perSecond: (counts.reduce((sum, count) => sum + count, 0) * 1000) / windowMs,
      jain: jain(counts),
      fewest: Math.min(...counts),
      most: Math.max(...counts),
      ofTheLongest: counts[0],
      ofWorkspaces,
      jainOfWorkspaces: jain(ofWorkspaces),
    };
  } finally {
    await stop(instance);
    await stack.stop();
  }
}

/**
 * Links the accounts of each workspace.
 * @param {import('../setup/stack.mjs').Stack} stack @param {number[]} workspaces
 */
async function connectAccounts(stack, workspaces) {
  const api = `${stack.urls.api}/api/v1`;
  const admin = stack.env.ADMIN_API_KEY;
  /** @type {{ id: string, workspace: number }[]} */
  const accounts = [];
  for (const [workspace, size] of workspaces.entries()) {
    const { id } = (await call('POST', `${api}/workspaces`, { name: `bench ${workspace}` }, admin)).body;
    for (let number = 0; number < size; number += 1) {
      const body = { name: `bench ${number}`, environment: 'sandbox' };
      const account = (await call('POST', `${api}/accounts?workspaceId=${id}`, body, admin)).body;
      await call('POST', `${api}/accounts/${account.id}/connect?workspaceId=${id}`, {}, admin);
      accounts.push({ id: account.id, workspace });
    }
  }
  await eventually('all ready', () =>
    withDatabase(stack.env.DATABASE_URL, async (client) => {
      const { rows } = await client.query(
        "select count(*)::int as ready from accounts where status = 'ready'",
      );
      return rows[0].ready === accounts.length;
    }),
  );
  return accounts;
}

/** How many messages each account sends in a time. @param {string} url @param {number} ms */
async function sentWithin(url, ms) {
  return withDatabase(url, async (client) => {
    const from = (await client.query('select now() as time')).rows[0].time;
    await delay(ms);
    const { rows } = await client.query(
      `select account_id as id, count(*)::int as count from messages
       where sent_at >= $1 and sent_at < $1::timestamptz + $2::int * interval '1 millisecond' group by account_id`,
      [from, ms],
    );
    return new Map(rows.map(({ id, count }) => [id, count]));
  });
}

/** @param {string} url */
async function shortestBacklog(url) {
  return withDatabase(url, async (client) => {
    const { rows } = await client.query(
      `select min(waiting)::int as fewest from (select count(m.id) as waiting from accounts a
         left join messages m on m.account_id = a.id and m.stage = 'queued' group by a.id) lanes`,
    );
    return rows[0].fewest;
  });
}

/**
 * Jain's index of fairness: 1 when all have the same, 1/n when one has everything.
 * @param {number[]} values
 */
function jain(values) {
  const sum = values.reduce((total, value) => total + value, 0);
  const squares = values.reduce((total, value) => total + value ** 2, 0);
  return sum ** 2 / (values.length * squares);
}

/** @param {import('node:child_process').ChildProcess | undefined} instance */
async function stop(instance) {
  if (!instance || instance.exitCode !== null || instance.signalCode !== null) return;
  const ended = once(instance, 'exit');
  instance.kill('SIGTERM');
  const isLate = await Promise.race([ended.then(() => false), delay(20_000, true, { ref: false })]);
  if (isLate) instance.kill('SIGKILL');
  await ended;
}

function rowsOf(one, two) {
  const sum = (/** @type {number[]} */ values) => values.reduce((total, value) => total + value, 0);
  return [
    {
      what: `fairness: ${sum(one.workspaces)} accounts, half of the backlog on one: Jain's index of what each sent`,
      value: `${one.jain.toFixed(4)}; ${one.fewest} to ${one.most} each, ${one.ofTheLongest} of the one, ${one.perSecond.toFixed(0)}/s in all`,
      target: '>= 0.99',
    },
    {
      what: `fairness between workspaces with ${two.workspaces.join(' and ')} accounts: sent by each, Jain's index`,
      value: `${two.ofWorkspaces.join(' and ')}; ${two.jainOfWorkspaces.toFixed(4)}`,
    },
  ];
}
