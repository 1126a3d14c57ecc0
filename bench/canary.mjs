/**
 * WhatsApp releases a broken version while a fleet sends, with the policy canary: only the canary may stop. Then WhatsApp mends
 * the version, and it reaches all accounts.
 */
import pg from 'pg';
import { call, eventually, newPhone, readLedger, startFleet } from './fleet.mjs';

/** @typedef {import('./fleet.mjs').Account} Account */
/** @typedef {import('./fleet.mjs').Schemas} Schemas */

/** A page without the module that sends. */
const damage = { missing: ['WAWebSendMsgChatAction'] };
/** How many sends in a row the mended version needs. */
const sendsToPass = 5;

/** @param {{ log: (text: string) => void }} options */
export async function run({ log }) {
  const result = await canary({ accounts: 8, messages: 1_000, log });
  const { accounts, messages, stopped, lost, doubled, failed, unknown, movedSeconds } = result;
  const others = stopped.filter((id) => id !== result.canary).length;
  const wrong = { 'other accounts that stopped': others, lost, doubled, failed, unknown };
  return {
    ...result,
    rows: [
      { what: 'accounts and messages', value: `${accounts}, ${messages}` },
      { what: 'the canary stopped', value: String(stopped.includes(result.canary)), target: 'true' },
      ...Object.entries(wrong).map(([what, count]) => ({ what, value: String(count), target: '0' })),
      { what: 'the mended version reached all accounts after', value: `${movedSeconds.toFixed(1)} s` },
    ],
    missed: [
      ...Object.entries(wrong).flatMap(([what, count]) => (count > 0 ? [`${what}: ${count}`] : [])),
      ...(stopped.includes(result.canary) ? [] : ['the canary did not stop']),
    ],
  };
}

/** @param {{ accounts: number, messages: number, log: (text: string) => void }} options */
export async function canary({ accounts: accountCount, messages, log }) {
  const fleet = await startFleet({ accounts: accountCount, instances: 2 });
  const { stack, api, key, accounts } = fleet;
  const adminKey = stack.env.ADMIN_API_KEY;
  /** @param {string} version @param {object} [broken] */
  const release = async (version, broken) => {
    const body = { version, ...(broken ? { damage: broken } : {}) };
    const { status } = await call('PUT', `${stack.urls.sandbox}/build`, body);
    if (status !== 200) throw new Error(`the sandbox answered ${status} to the build ${version}`);
  };
  /** @returns {Promise<Schemas['WebVersionResponse'][]>} */
  const versions = async () => {
    /** @type {{ body: Schemas['WebVersionsResponse'] }} */
    const { body } = await call('GET', `${api}/admin/web-versions`, undefined, adminKey);
    return body.items;
  };
  const read = () =>
    Promise.all(
      accounts.map(async ({ id }) => {
        /** @type {{ body: Account }} */
        const { body } = await call('GET', `${api}/accounts/${id}`, undefined, key);
        return body;
      }),
    );
  /** @param {string} status @param {string} [accountId] */
  const count = async (status, accountId) => {
    const of = accountId ? `&accountId=${accountId}` : '';
    /** @type {{ body: { items: object[] } }} */
    const { body } = await call(
      'GET',
      `${api}/messages?direction=outgoing&status=${status}&limit=200${of}`,
      undefined,
      key,
    );
    return body.items.length;
  };
  /** @param {string} id */
  const restart = async (id) => {
    const { status } = await call('POST', `${api}/accounts/${id}/restart`, {}, key);
    if (status !== 202) throw new Error(`a restart was answered with ${status}`);
  };
  try {
    const chosen = /** @type {Account} */ (accounts[0]).id;
    const good = await eventually('the page of the good version is kept', async () =>
      (await versions()).find(({ isKept, contract }) => isKept && contract === 'ok'),
    );
    const { status } = await call(
      'PUT',
      `${api}/admin/web-versions/policy`,
      { mode: 'canary', canaries: [chosen], sends: sendsToPass },
      adminKey,
    );
    if (status !== 200) throw new Error(`the policy was answered with ${status}`);
    const phone = await newPhone(stack.urls.sandbox);

    let posted = 0;
    /** @param {number} until */
    const post = async (until) => {
      while (posted < until) {
        const number = posted;
        const accountId = /** @type {Account} */ (accounts[number % accounts.length]).id;
        const body = { accountId, to: phone, text: `canary ${String(number).padStart(5, '0')}` };
        const answer = await call('POST', `${api}/messages`, body, key);
        if (answer.status !== 202) throw new Error(`a message was answered with ${answer.status}`);
        posted += 1;
      }
    };
    // A release reaches an account when its page loads again. Here all pages do, in the middle of the sending.
    const first = post(Math.floor(messages / 2));
    await eventually('half of the first messages', () => posted >= messages / 4);
    await release('september', damage);
    log(`a broken version is released after ${posted} messages`);
    await Promise.all([first, ...accounts.map(({ id }) => restart(id))]);
    await eventually(
      'the canary has stopped',
      async () =>
        (await read()).some(
          ({ id, contract, webVersion }) =>
            id === chosen && contract === 'broken' && webVersion !== good.version,
        ),
      120_000,
      200,
    );
    await post(messages);
    await eventually(
      'the other accounts have sent all',
      async () => {
        for (const { id } of accounts.slice(1))
          for (const waiting of ['queued', 'sending']) if ((await count(waiting, id)) > 0) return false;
        return true;
      },
      600_000,
      200,
    );
    const stopped = await accountsThatStopped(stack.env.DATABASE_URL);
    const held = await count('queued', chosen);
    log(
      `${stopped.length} of ${accounts.length} accounts stopped; the canary holds ${held >= 200 ? '200 or more' : held} messages`,
    );
    const refused = await eventually('the version is refused', async () =>
      (await versions()).find(({ status: decided }) => decided === 'refused'),
    );
    const versionsOfOthers = [
      ...new Set((await read()).filter(({ id }) => id !== chosen).map(({ webVersion }) => webVersion)),
    ];

    await release('september');
    const mendedAt = performance.now();
    await restart(chosen);
    const isOver = async () => (await count('queued')) + (await count('sending')) === 0;
    await eventually('all messages have left', isOver, 600_000, 200);
    await eventually(
      'all accounts have the mended version',
      async () => {
        const now = await read();
        return now.every(
          ({ contract, webVersion, status: is }) =>
            is === 'ready' && contract === 'ok' && webVersion !== good.version,
        );
      },
      600_000,
      200,
    );
    const movedSeconds = (performance.now() - mendedAt) / 1_000;
    const passed = (await versions()).find(({ version }) => version !== good.version);

    const ledger = (await readLedger(stack.urls.sandbox)).filter(({ text }) => text.startsWith('canary '));
    const texts = new Set(ledger.map(({ text }) => text));
    return {
      accounts: accounts.length,
      messages,
      canary: chosen,
      stopped,
      held,
      good: good.version,
      versionsOfOthers,
      refused: { version: refused.version, reason: refused.reason },
      passed: passed
        ? { version: passed.version, status: passed.status, isSelfTested: passed.isSelfTested }
        : null,
      lost: posted - texts.size,
      doubled: ledger.length - texts.size,
      failed: await count('failed'),
      unknown: await count('unknown'),
      movedSeconds,
    };
  } finally {
    await stack.stop();
  }
}

/** The accounts that found their page broken at any time, by the log of events. @param {string} databaseUrl */
async function accountsThatStopped(databaseUrl) {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    /** @type {{ rows: { id: string }[] }} */
    const { rows } = await client.query(
      `select distinct account_id as id from events where type = 'account.web_incompatible'`,
    );
    return rows.map(({ id }) => id);
  } finally {
    await client.end();
  }
}
