/**
 * Checks that an account never has two owners at once. Two servers with two instances each send all the time, while
 * instances are killed, stopped for longer than their lease, and cut off from PostgreSQL, and while PostgreSQL is down. The
 * sandbox counts connections with the same credential, and the log says which instance held which account in which epoch.
 */
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { createStack } from '../setup/stack.mjs';
import { tcpProxy } from '../setup/tcp-proxy.mjs';
import { call, eventually, newPhone, readLedger, sandboxStats, startFleet } from './fleet.mjs';

const accountCount = 4;
/** Shorter than the defaults, with the same proportions, so that many faults fit into the time. */
const leaseMs = 5_000;
const settings = {
  SESSION_STORE: 'postgres',
  SESSION_SNAPSHOT_DELAY_MS: '500',
  INSTANCE_LEASE_MS: String(leaseMs),
  INSTANCE_RENEW_MS: '800',
  INSTANCE_STOP_MARGIN_MS: '2000',
  INSTANCE_TAKEOVER_MARGIN_MS: '1500',
  INSTANCE_RESTART_GRACE_MS: '5000',
};
/** The kinds of faults, and how many of a hundred faults each has. */
const kinds = { kill: 70, hang: 13, cut: 12, database: 5 };

/** @param {{ faults: number, log: (text: string) => void }} options */
export async function run({ faults, log }) {
  const fleet = await startFleet({
    accounts: accountCount,
    instances: 2,
    env: { ...settings, SERVER_ID: 'server-1' },
  });
  const { stack } = fleet;
  const cable = await tcpProxy(stack.env.DATABASE_URL);
  const shared = [
    'REDIS_URL',
    'ADMIN_API_KEY',
    'INTERNAL_API_KEY',
    'APP_KEY',
    'SANDBOX_PORT',
    'SANDBOX_CONTROL_PORT',
  ];
  const second = await createStack({
    instances: 2,
    programs: ['instance'],
    env: {
      ...settings,
      SERVER_ID: 'server-2',
      DATABASE_URL: cable.url,
      ...Object.fromEntries(shared.map((name) => [name, stack.env[name] ?? ''])),
    },
  });
  const traffic = new Traffic(fleet);
  try {
    await second.start();
    await delay(2_000);
    await call('POST', `${fleet.api}/admin/rebalance`, {}, stack.env.ADMIN_API_KEY);
    const before = await readLog(stack.env.DATABASE_URL);
    await traffic.start();
    const injected = { kill: 0, hang: 0, cut: 0, database: 0 };
    const started = performance.now();
    for (let fault = 0; fault < faults; fault += 1) {
      const kind = /** @type {keyof typeof kinds} */ (choose(kinds));
      await inject[kind]({ stacks: [stack, second], cable });
      injected[kind] += 1;
      if ((fault + 1) % 10 === 0 || fault + 1 === faults) {
        const { conflicts } = await sandboxStats(stack.urls.sandbox);
        log(
          `${fault + 1} of ${faults} faults, ${traffic.accepted} messages accepted, ${conflicts} conflicts, ${((performance.now() - started) / 60_000).toFixed(1)} min`,
        );
      }
      await delay(Math.random() * 2_500);
    }
    const sent = await traffic.finish();
    const after = await readLog(stack.env.DATABASE_URL);
    const { conflicts } = await sandboxStats(stack.urls.sandbox);
    return {
      injected,
      conflicts,
      ...sent,
      ...after,
      minutes: (performance.now() - started) / 60_000,
      rows: [
        {
          what: 'faults: kill -9, SIGSTOP longer than the lease, network cut, PostgreSQL down',
          value: Object.values(injected).join(', '),
          target: '200 in all',
        },
        {
          what: 'two owners at once, counted by the sandbox (conflicts)',
          value: String(conflicts),
          target: '0',
        },
        { what: 'epochs held by two instances, in the log', value: String(after.sharedEpochs), target: '0' },
        { what: 'changes of owner', value: String(after.epochs - before.epochs) },
        { what: 'new QR codes', value: String(after.qrs - before.qrs), target: '0' },
        {
          what: 'messages sent again under their id, dropped by the recipient',
          value: String(sent.sentAgain),
        },
        {
          what: 'messages sent meanwhile: accepted, lost, doubled, out of order, unknown',
          value: [sent.accepted, sent.lost, sent.doubled, sent.disorder, sent.unknown].join(', '),
          target: 'n, 0, 0, 0, 0',
        },
      ],
    };
  } finally {
    traffic.stop();
    cable.restore();
    await second.stop();
    await cable.close();
    await stack.stop();
  }
}

/** @typedef {import('../setup/stack.mjs').Stack} Stack */
/** @typedef {{ stacks: [Stack, Stack], cable: import('../setup/tcp-proxy.mjs').TcpProxy }} Target */

const inject = {
  /** @param {Target} target */
  async kill(target) {
    const { stack, program } = await anInstance(target);
    await stack.kill(program);
  },

  /** @param {Target} target */
  async hang(target) {
    const { stack, program } = await anInstance(target);
    const pid = await stack.kill(program, 'SIGSTOP');
    await delay(leaseMs + 1_000 + Math.random() * 4_000);
    process.kill(pid, 'SIGCONT');
  },

  /** @param {Target} target */
  async cut({ cable }) {
    cable.cut();
    await delay(leaseMs + Math.random() * 5_000);
    cable.restore();
  },

  /** @param {Target} target */
  async database({ stacks: [stack] }) {
    await stack.ctl('stop', 'flotilla-data:postgres');
    await delay(1_000 + Math.random() * 8_000);
    await stack.ctl('start', 'flotilla-data:postgres');
  },
};

/** A random instance that is running. @param {Target} target */
async function anInstance({ stacks }) {
  return eventually('an instance that runs', async () => {
    const stack = stacks[Math.floor(Math.random() * stacks.length)];
    if (!stack) return undefined;
    const programs = [...(await stack.status())].filter(
      ([name, { state, pid }]) => /instance_\d+$/.test(name) && state === 'RUNNING' && pid > 0,
    );
    const chosen = programs[Math.floor(Math.random() * programs.length)];
    return chosen && { stack, program: chosen[0] };
  });
}

/** @param {Record<string, number>} weights */
function choose(weights) {
  let left = Math.random() * Object.values(weights).reduce((sum, weight) => sum + weight, 0);
  return Object.entries(weights).find(([, weight]) => (left -= weight) <= 0)?.[0] ?? Object.keys(weights)[0];
}

/** Epochs and owners according to the log. @param {string} url */
async function readLog(url) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    /** @type {import('pg').QueryResult<{ epochs: number, qrs: number, sharedEpochs: number }>} */
    const { rows } = await client.query(
      `select (select coalesce(sum(epoch), 0)::int from accounts) as epochs,
         (select count(*)::int from connection_logs where event_type = 'qr_generated') as qrs,
         (select count(*)::int from (select 1 from connection_logs where event_type in ('claimed', 'connected')
            group by account_id, epoch having count(distinct instance_id) > 1) shared) as "sharedEpochs"`,
    );
    const [row] = rows;
    if (!row) throw new Error('PostgreSQL answered no row.');
    return row;
  } finally {
    await client.end();
  }
}

/** A client that sends a few messages a second on each account all the time, and counts what arrived. */
class Traffic {
  accepted = 0;
  #isOver = false;
  /** @type {Promise<void> | null} */
  #sending = null;

  /** @param {import('./fleet.mjs').Fleet} fleet */
  constructor(fleet) {
    this.fleet = fleet;
  }

  async start() {
    this.#sending = this.#send(await newPhone(this.fleet.stack.urls.sandbox));
  }

  stop() {
    this.#isOver = true;
  }

  /** @param {string} phone the recipient */
  async #send(phone) {
    const { api, key, accounts } = this.fleet;
    while (!this.#isOver) {
      const number = this.accepted;
      const text = `traffic/${String(number).padStart(7, '0')}`;
      const body = { accountId: accounts[number % accounts.length]?.id, to: phone, text };
      // The API refuses messages while PostgreSQL is down. A client tries again.
      const answer = await call('POST', `${api}/messages`, body, key, { 'idempotency-key': text }).catch(
        () => null,
      );
      if (answer?.status === 202) this.accepted += 1;
      else await delay(200);
      await delay(60);
    }
  }

  /** Waits until every message has its end, and compares with what arrived. */
  async finish() {
    const { stack, api, key } = this.fleet;
    this.stop();
    await this.#sending;
    for (const status of ['queued', 'sending']) {
      await eventually(
        `nothing ${status}`,
        async () => {
          /** @type {{ body: { items?: unknown[] } }} */
          const { body } = await call(
            'GET',
            `${api}/messages?direction=outgoing&status=${status}&limit=1`,
            undefined,
            key,
          );
          return body.items?.length === 0;
        },
        180_000,
        500,
      );
    }
    /** @type {{ body: { items: unknown[] } }} */
    const { body: page } = await call('GET', `${api}/messages?status=unknown&limit=200`, undefined, key);
    const entries = (await readLedger(stack.urls.sandbox)).filter(({ text }) => text.startsWith('traffic/'));
    // A session snapshot does not know the messages after it. They are sent again under their id, and the recipient drops them.
    const received = entries.filter(({ duplicate }) => !duplicate);
    const texts = new Set(received.map(({ text }) => text));
    /** @type {Map<string, string>} */
    const last = new Map();
    let disorder = 0;
    for (const { from, text } of received) {
      if (text < (last.get(from) ?? '')) disorder += 1;
      last.set(from, text);
    }
    return {
      accepted: this.accepted,
      lost: this.accepted - texts.size,
      doubled: received.length - texts.size,
      sentAgain: entries.length - received.length,
      disorder,
      unknown: page.items.length,
    };
  }
}
