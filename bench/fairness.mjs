/**
 * Fairness: 50 accounts have a backlog, and one account has half of it. Counts what each account sends in a window. In the
 * first run the accounts belong to one workspace, in the second to two workspaces of different size, which have to send
 * the same. The instance is real except for its browsers (sending-instance.mjs), so that a small machine can run 50 accounts.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createStack } from '../setup/stack.mjs';
import { holdCampaigns, insertBacklog, withDatabase } from './backlog.mjs';
import { sum } from './figures.mjs';
import { call, eventually, noLimits } from './fleet.mjs';

/** @typedef {Awaited<ReturnType<typeof measure>>} Measured */

const ofOneWorkspace = [50];
const ofTwoWorkspaces = [40, 10];
/** Large enough that no lane runs empty in the window. */
const backlog = 200_000;
/** The queues fill in the first seconds, which do not count. */
const warmUpMs = 5_000;
const windowMs = 20_000;

/** @param {{ log: (text: string) => void }} options */
export async function fairness({ log }) {
  const accounts = await measure(ofOneWorkspace, {}, log);
  // A lane sends one message at a time: with few worker slots, ten lanes can send their half.
  const workspaces = await measure(ofTwoWorkspaces, { WORKER_CONCURRENCY: '8' }, log);
  return { accounts, workspaces, rows: rowsOf(accounts, workspaces) };
}

/**
 * @param {number[]} workspaces the number of accounts of each
 * @param {Record<string, string>} env
 * @param {(text: string) => void} log
 */
async function measure(workspaces, env, log) {
  const stack = await createStack({ instances: 1, programs: ['sandbox', 'worker', 'scheduler', 'api'], env });
  /** @type {import('node:child_process').ChildProcess | undefined} */
  let instance;
  try {
    await stack.start();
    instance = fork(join(import.meta.dirname, 'sending-instance.mjs'), {
      // The instance starts no browser, but checks that the program exists.
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
    const [first = '', ...others] = accounts.map(({ id }) => id);
    await insertBacklog(stack.env.DATABASE_URL, {
      // The first account gets as many as all others together.
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
      sum(accounts.map(({ workspace, id }) => (workspace === number ? (sent.get(id) ?? 0) : 0))),
    );
    const leftOfTheShortest = await shortestBacklog(stack.env.DATABASE_URL);
    if (leftOfTheShortest === 0)
      throw new Error('A lane ran empty in the window, so the counts prove nothing.');
    // Nothing is being sent when the instance stops.
    await holdCampaigns(stack.env.DATABASE_URL);
    return {
      workspaces,
      backlog,
      leftOfTheShortest,
      perSecond: (sum(counts) * 1000) / windowMs,
      jain: jain(counts),
      fewest: Math.min(...counts),
      most: Math.max(...counts),
      ofTheLongest: sent.get(first) ?? 0,
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
 *
 * @param {import('../setup/stack.mjs').Stack} stack
 * @param {number[]} workspaces
 */
async function connectAccounts(stack, workspaces) {
  const api = `${stack.urls.api}/api/v1`;
  const admin = stack.env.ADMIN_API_KEY;
  /** @type {{ id: string, workspace: number }[]} */
  const accounts = [];
  for (const [workspace, size] of workspaces.entries()) {
    const wanted = { name: `bench ${workspace}`, limits: noLimits };
    /** @type {{ body: { id: string } }} */
    const { body: made } = await call('POST', `${api}/workspaces`, wanted, admin);
    const { id } = made;
    for (let number = 0; number < size; number += 1) {
      const body = { name: `bench ${number}`, environment: 'sandbox' };
      /** @type {{ body: { id: string } }} */
      const { body: account } = await call('POST', `${api}/accounts?workspaceId=${id}`, body, admin);
      await call('POST', `${api}/accounts/${account.id}/connect?workspaceId=${id}`, {}, admin);
      accounts.push({ id: account.id, workspace });
    }
  }
  await eventually('all ready', () =>
    withDatabase(stack.env.DATABASE_URL, async (client) => {
      /** @type {import('pg').QueryResult<{ ready: number }>} */
      const { rows } = await client.query(
        "select count(*)::int as ready from accounts where status = 'ready'",
      );
      return rows[0]?.ready === accounts.length;
    }),
  );
  return accounts;
}

/** How many messages each account sends in a window. @param {string} url @param {number} ms */
async function sentWithin(url, ms) {
  return withDatabase(url, async (client) => {
    /** @type {import('pg').QueryResult<{ time: Date }>} */
    const { rows: now } = await client.query('select now() as time');
    await delay(ms);
    /** @type {import('pg').QueryResult<{ id: string, count: number }>} */
    const { rows } = await client.query(
      `select account_id as id, count(*)::int as count from messages
       where sent_at >= $1 and sent_at < $1::timestamptz + $2::int * interval '1 millisecond' group by account_id`,
      [now[0]?.time, ms],
    );
    return new Map(rows.map(({ id, count }) => [id, count]));
  });
}

/** @param {string} url */
async function shortestBacklog(url) {
  return withDatabase(url, async (client) => {
    /** @type {import('pg').QueryResult<{ fewest: number }>} */
    const { rows } = await client.query(
      `select min(waiting)::int as fewest from (select count(m.id) as waiting from accounts a
         left join messages m on m.account_id = a.id and m.stage = 'queued' group by a.id) lanes`,
    );
    return rows[0]?.fewest;
  });
}

/**
 * Jain's index of fairness: 1 when all have the same, 1/n when one has everything.
 * @param {number[]} values
 */
function jain(values) {
  return sum(values) ** 2 / (values.length * sum(values.map((value) => value ** 2)));
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

/** @param {Measured} one @param {Measured} two */
function rowsOf(one, two) {
  return [
    {
      what: `fairness: ${sum(one.workspaces)} accounts, half of the backlog on one: Jain's index of sent messages`,
      value: `${one.jain.toFixed(4)}; ${one.fewest} to ${one.most} each, ${one.ofTheLongest} on the one, ${one.perSecond.toFixed(0)}/s in all`,
      target: '>= 0.99',
    },
    {
      what: `fairness between workspaces with ${two.workspaces.join(' and ')} accounts: sent by each, Jain's index`,
      value: `${two.ofWorkspaces.join(' and ')}; ${two.jainOfWorkspaces.toFixed(4)}`,
    },
  ];
}
