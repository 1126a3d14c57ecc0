/**
 * The effect of a million waiting campaign messages: on the delay of an urgent message, the cost of a message, the memory of
 * Redis, and the answer times for operators and callers. Also checks the API while Redis is down.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { holdCampaigns, insertBacklog, releaseCampaigns, withDatabase } from './backlog.mjs';
import { fairness } from './fairness.mjs';
import { increase, median, percentiles, secondsSince, sum } from './figures.mjs';
import { call, cpuTimes, eventually, newPhone, readLedger, sandboxStats, startFleet } from './fleet.mjs';

/** @typedef {import('./figures.mjs').Percentiles} Percentiles */
/** @typedef {Record<string, number>} Costs processor milliseconds by program */

const accountCount = 4;
const few = 1_000;
const urgents = 200;
const withoutRedis = 100;
/** The programs that count for the cost of a message. The others are shown beside it. */
const parts = ['api', 'worker', 'postgres'];
const restMs = 10_000;
const patienceMs = 600_000;

/** @param {{ rows: number, messages: number, rounds: number, log: (text: string) => void }} options */
export async function run({ rows, messages, rounds, log }) {
  const fleet = await startFleet({ accounts: accountCount, instances: 2 });
  const bench = new DeliveryBench(fleet, { rows, messages, rounds, log });
  /** @type {Measured} */
  let measured;
  try {
    measured = await bench.measure();
  } finally {
    await fleet.stack.stop();
  }
  const fair = await fairness({ log });
  return { waiting: rows, ...measured, fairness: fair, rows: [...rowsOf(measured, rows), ...fair.rows] };
}

/** @typedef {Awaited<ReturnType<DeliveryBench['measure']>>} Measured */

class DeliveryBench {
  #sent = 0;

  /**
   * @param {import('./fleet.mjs').Fleet} fleet
   * @param {{ rows: number, messages: number, rounds: number, log: (text: string) => void }} options
   */
  constructor(fleet, { rows, messages, rounds, log }) {
    this.fleet = fleet;
    this.waiting = rows;
    this.messages = messages;
    this.rounds = rounds;
    this.log = log;
    this.phone = '';
    this.url = fleet.stack.env.DATABASE_URL;
    this.redis = new Redis(fleet.stack.env.REDIS_URL);
    this.redis.on('error', () => undefined);
  }

  /** How many campaign messages are measured. The short campaign has `few` more. */
  get campaignMessages() {
    return 2 * this.messages * accountCount;
  }

  async measure() {
    try {
      this.phone = await newPhone(this.fleet.stack.urls.sandbox);
      await this.send(50);
      await this.urgent();

      const idle = [await this.urgent()];
      const atRestBefore = await this.costOfRest();
      const redisBefore = await this.redisMemory();
      const withoutRedis = await this.redisDown();
      await this.insert(few);
      const costOfFew = await this.costs();
      await this.insert(this.campaignMessages);
      await releaseCampaigns(this.url);
      const campaignOfFew = await this.campaignCost();
      await eventually('an empty campaign', async () => (await this.waitingCount()) === 0, patienceMs);
      await this.nothingOnItsWay();

      await this.insert(this.waiting);
      const redisHeld = (await this.redisMemory()) - redisBefore;
      const costOfMany = await this.costs();
      const urgentHeld = await this.urgent();
      const atRest = await this.costOfRest();
      const lookups = await this.lookups();

      await releaseCampaigns(this.url);
      await delay(restMs);
      const campaignOfMany = await this.campaignCost();
      const urgentActive = await this.urgent();
      const redisActive = (await this.redisMemory()) - redisBefore;

      await holdCampaigns(this.url);
      await withDatabase(this.url, (client) => client.query('truncate messages cascade'));
      idle.push(await this.urgent());
      const { duplicates, conflicts, maxInFlight } = await this.stats();
      return {
        urgentMs: {
          idle: percentiles(idle.flat()),
          held: percentiles(urgentHeld),
          active: percentiles(urgentActive),
        },
        cost: { few: costOfFew, many: costOfMany },
        campaign: { few: campaignOfFew, many: campaignOfMany },
        redisBytes: { held: redisHeld, active: redisActive },
        cpuMsPerSecondAtRest: { none: atRestBefore, many: atRest },
        lookups,
        withoutRedis,
        duplicates,
        conflicts,
        maxInFlight,
      };
    } finally {
      this.redis.disconnect();
    }
  }

  /** @param {number} count */
  async insert(count) {
    const started = performance.now();
    const accounts = this.fleet.accounts.map(({ id }) => id);
    await insertBacklog(this.url, { accounts, count, phone: this.phone, isHeld: true });
    this.log(`${count} campaign messages inserted and held in ${secondsSince(started)}`);
  }

  /** Posts urgent messages now and then, on each account in turn. @returns the milliseconds from POST to ack 1 of each */
  async urgent() {
    const { api, key, accounts } = this.fleet;
    const since = await this.ledgerSize();
    /** @type {Map<string, number>} */
    const posted = new Map();
    for (let number = 0; number < urgents; number += 1) {
      const text = `urgent/${++this.#sent}`;
      posted.set(text, performance.timeOrigin + performance.now());
      await this.accepted(
        'POST',
        `${api}/messages`,
        {
          accountId: accounts[number % accounts.length]?.id,
          to: this.phone,
          text,
          priority: 'urgent',
        },
        key,
      );
      // The random pause avoids the rhythm of regular tasks.
      await delay(50 + Math.random() * 100);
    }
    const lines = await eventually('the urgent messages', async () => {
      const found = (await this.ledger(since)).filter(({ text }) => posted.has(text));
      return found.length >= urgents && found;
    });
    const times = lines.map(({ at, text }) => Date.parse(at) - (posted.get(text) ?? NaN));
    const { p50, p95 } = percentiles(times);
    this.log(`urgent: p50 ${p50.toFixed(0)} ms, p95 ${p95.toFixed(0)} ms`);
    return times;
  }

  /** The cost of a message from REST to ack 1, while others wait behind it. */
  async costs() {
    /** @type {Costs[]} */
    const rounds = [];
    for (let round = 0; round < this.rounds; round += 1) {
      rounds.push(await this.perMessage(this.messages * accountCount, () => this.send(this.messages)));
    }
    /** @type {Costs} */
    const cost = Object.fromEntries(
      Object.keys(rounds[0] ?? {}).map((part) => [part, median(rounds.map((costs) => costs[part] ?? 0))]),
    );
    this.log(`processor ms per message: ${describe(cost)}`);
    return cost;
  }

  /** The cost of a campaign message from its row to ack 1, while its campaign is being sent. */
  async campaignCost() {
    const count = this.campaignMessages;
    const started = performance.now();
    const before = (await this.stats()).accepted;
    let sent = 0;
    const cost = await this.perMessage(count, async () => {
      await eventually(
        'the campaign',
        async () => (sent = (await this.stats()).accepted - before) >= count,
        patienceMs,
      );
    });
    const perSecond = (sent * 1000) / (performance.now() - started);
    this.log(`campaign: ${perSecond.toFixed(0)}/s, processor ms per message: ${describe(cost)}`);
    return { ...cost, perSecond };
  }

  /** @param {number} count @param {() => Promise<void>} work */
  async perMessage(count, work) {
    const before = await cpuTimes(this.fleet.stack);
    await work();
    const after = await cpuTimes(this.fleet.stack);
    return increase(before, after, count);
  }

  /** Sends normal messages over REST with one client for each account, until WhatsApp has them all. @param {number} perAccount */
  async send(perAccount) {
    const { api, key, accounts } = this.fleet;
    const count = perAccount * accounts.length;
    const since = await this.ledgerSize();
    const run = `normal/${++this.#sent}/`;
    await Promise.all(
      accounts.map(async ({ id }, account) => {
        for (let number = 0; number < perAccount; number += 1) {
          const text = `${run}${account}/${number}`;
          await this.accepted('POST', `${api}/messages`, { accountId: id, to: this.phone, text }, key);
        }
      }),
    );
    await eventually(
      'everything accepted by WhatsApp',
      async () => (await this.ledger(since)).filter(({ text }) => text.startsWith(run)).length >= count,
      patienceMs,
      100,
    );
    await this.nothingOnItsWay();
  }

  /** Sends messages while Redis is down, and waits for them after its return. */
  async redisDown() {
    const { stack, api, key } = this.fleet;
    const since = await this.ledgerSize();
    await stack.ctl('stop', 'flotilla-data:redis');
    const times = [];
    for (let number = 0; number < withoutRedis; number += 1) {
      const started = performance.now();
      const accountId = this.fleet.accounts[number % accountCount]?.id;
      const text = `without-redis/${number}`;
      await this.accepted('POST', `${api}/messages`, { accountId, to: this.phone, text }, key);
      times.push(performance.now() - started);
    }
    await stack.ctl('start', 'flotilla-data:redis');
    const started = performance.now();
    const texts = await eventually('what was accepted without Redis', async () => {
      const found = (await this.ledger(since)).filter(({ text }) => text.startsWith('without-redis/'));
      return found.length >= withoutRedis && found.map(({ text }) => text);
    });
    const seconds = (performance.now() - started) / 1000;
    this.log(
      `${withoutRedis} messages accepted without Redis, all sent ${seconds.toFixed(1)} s after its return`,
    );
    return {
      accepted: withoutRedis,
      sent: new Set(texts).size,
      lines: texts.length,
      postMs: percentiles(times),
      seconds,
    };
  }

  /** Answer times of lists and of a POST, in milliseconds. */
  async lookups() {
    const { api, key, stack } = this.fleet;
    const timed = async (/** @type {() => Promise<unknown>} */ ask) => {
      const times = [];
      for (let time = 0; time < 5; time += 1) {
        const started = performance.now();
        await ask();
        times.push(performance.now() - started);
      }
      return median(times);
    };
    const admin = stack.env.ADMIN_API_KEY;
    return {
      queues: await timed(() => this.accepted('GET', `${api}/admin/queues`, undefined, admin)),
      queuedPage: await timed(() =>
        this.accepted('GET', `${api}/messages?status=queued&limit=50`, undefined, key),
      ),
      sentPage: await timed(() =>
        this.accepted('GET', `${api}/messages?status=sent&limit=50`, undefined, key),
      ),
      chooseAccount: await timed(() =>
        this.accepted(
          'POST',
          `${api}/messages`,
          { to: this.phone, text: `any/${++this.#sent}`, priority: 'high' },
          key,
        ),
      ),
    };
  }

  /** The processor milliseconds per second of the idle programs. */
  async costOfRest() {
    await this.nothingOnItsWay();
    const started = performance.now();
    const before = await cpuTimes(this.fleet.stack);
    await delay(restMs);
    const after = await cpuTimes(this.fleet.stack);
    const seconds = (performance.now() - started) / 1000;
    const cost = increase(before, after, seconds);
    this.log(`at rest, processor ms a second: ${describe(cost)}`);
    return cost;
  }

  async redisMemory() {
    return Number(/^used_memory:(\d+)/m.exec(await this.redis.info('memory'))?.[1]);
  }

  async nothingOnItsWay() {
    await eventually(
      'nothing on its way',
      () =>
        withDatabase(this.url, async (client) => {
          /** @type {import('pg').QueryResult<{ done: boolean }>} */
          const { rows } = await client.query(
            "select not exists (select from messages where stage = 'sending' or (stage = 'queued' and priority > 0)) as done",
          );
          return rows[0]?.done;
        }),
      patienceMs,
    );
  }

  waitingCount() {
    return withDatabase(this.url, async (client) => {
      /** @type {import('pg').QueryResult<{ count: number }>} */
      const { rows } = await client.query(
        "select count(*)::int as count from messages where stage = 'queued'",
      );
      return rows[0]?.count;
    });
  }

  async ledgerSize() {
    const { accepted, duplicates } = await this.stats();
    return accepted + duplicates;
  }

  /** @param {number} since */
  ledger(since) {
    return readLedger(this.fleet.stack.urls.sandbox, since);
  }

  stats() {
    return sandboxStats(this.fleet.stack.urls.sandbox);
  }

  /** @param {string} method @param {string} url @param {object | undefined} body @param {string} key */
  async accepted(method, url, body, key) {
    const answer = await call(method, url, body, key);
    if (answer.status >= 300)
      throw new Error(`${method} ${url}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }
}

/** @param {Measured} measured @param {number} waiting */
function rowsOf(
  { urgentMs, cost, campaign, redisBytes, cpuMsPerSecondAtRest, lookups, withoutRedis, ...rest },
  waiting,
) {
  const n = waiting.toLocaleString('en');
  const ms = (/** @type {Percentiles} */ { p50, p95 }) =>
    `p50 ${p50.toFixed(0)} ms, p95 ${p95.toFixed(0)} ms`;
  const againstIdle = (/** @type {Percentiles} */ times) =>
    `${ms(times)}, ratio ${(times.p95 / urgentMs.idle.p95).toFixed(2)}`;
  const total = (/** @type {Costs} */ costs) => sum(parts.map((part) => costs[part] ?? 0));
  const told = (/** @type {Costs} */ costs) => `${total(costs).toFixed(2)} in all\n${describe(costs)}`;
  const ratio = (/** @type {Costs} */ many, /** @type {Costs} */ one) =>
    `ratio ${(total(many) / total(one)).toFixed(2)}\n${told(many)}`;
  const memory = (/** @type {number} */ bytes) => `${(bytes / 2 ** 20).toFixed(2)} MB`;
  return [
    { what: 'urgent, POST to ack 1, nothing waiting', value: ms(urgentMs.idle) },
    {
      what: `… with ${n} campaign rows held`,
      value: againstIdle(urgentMs.held),
      target: 'p95 <= 1.5 x idle',
    },
    {
      what: `… with ${n} campaign rows being sent`,
      value: againstIdle(urgentMs.active),
      target: 'p95 <= 1.5 x idle',
    },
    { what: `processor ms per message from REST, ${few} rows waiting`, value: told(cost.few) },
    { what: `… ${n} rows waiting`, value: ratio(cost.many, cost.few), target: '<= 1.2 x' },
    { what: 'processor ms per campaign message, a short campaign', value: told(campaign.few) },
    { what: `… of ${n}`, value: ratio(campaign.many, campaign.few), target: '<= 1.2 x' },
    {
      what: 'campaign messages a second, short and long',
      value: `${campaign.few.perSecond.toFixed(0)}, ${campaign.many.perSecond.toFixed(0)}`,
    },
    {
      what: `Redis memory for ${n} rows, held and being sent`,
      value: `${memory(redisBytes.held)}, ${memory(redisBytes.active)}`,
      target: '<= 10 MB',
    },
    { what: 'at rest, processor ms a second: nothing waiting', value: describe(cpuMsPerSecondAtRest.none) },
    { what: `… ${n} rows held`, value: describe(cpuMsPerSecondAtRest.many) },
    {
      what: `with ${n} rows: queues page, a page of queued, a page of sent, POST without accountId`,
      value: Object.values(lookups)
        .map((time) => `${time.toFixed(0)} ms`)
        .join(', '),
    },
    {
      what: 'without Redis: accepted, sent when it was back, ledger lines',
      value: `${withoutRedis.accepted}, ${withoutRedis.sent}, ${withoutRedis.lines}; within ${withoutRedis.seconds.toFixed(1)} s`,
      target: 'all, each once',
    },
    {
      what: 'duplicates, conflicts, in flight per account',
      value: `${rest.duplicates}, ${rest.conflicts}, ${rest.maxInFlight}`,
      target: '0, 0, 1',
    },
  ];
}

/** @param {Record<string, number>} cost */
function describe(cost) {
  return Object.entries(cost)
    .filter(([part, time]) => part !== 'perSecond' && time >= 0.005)
    .sort((a, b) => b[1] - a[1])
    .map(([part, time]) => `${time.toFixed(2)} ${part}`)
    .join(', ');
}
