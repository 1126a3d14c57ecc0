/** The clients of a chaos run: they send messages of all four priorities on every account, a few a second. */
import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { v7 as uuidv7 } from 'uuid';
import { whatsappIdOf } from '#dist/src/messages/message.entity.js';
import { call } from './fleet.mjs';

/** The average pause of a client between two messages, for each priority. */
const pausesMs = { urgent: 4_000, high: 3_000, normal: 2_000 };
const priorities = /** @type {Priority[]} */ (Object.keys(pausesMs));
const campaignBatch = { rows: 4, pauseMs: 4_000 };
const answerMs = 5_000;
const retryMs = 200;
/** How long a client may ask for a missing answer after the end. */
const finishMs = 120_000;
/** In some lanes one message of every 20 has a special ending: its number within the 20, for each ending. */
const special = { every: 20, cancelled: 7, unregistered: 13, expiring: 7 };
const expiresInMs = 2_000;
/** A number without WhatsApp. */
const nobody = '+628129999999';

/** @typedef {keyof typeof pausesMs} Priority */
/** @typedef {{ accountId: string, to: string, text: string, priority: Priority, expiresAt?: string }} Body */

/**
 * The text of a message names its account, priority and number, so that the ledger alone can be judged.
 *
 * @param {number} account
 * @param {Priority | 'campaign'} priority
 * @param {number} number
 */
export function textOf(account, priority, number) {
  return `chaos/${account}/${priority}/${String(number).padStart(7, '0')}`;
}

export class ChaosLoad {
  /** The ids of the accepted messages, by text. @type {Map<string, string>} */
  accepted = new Map();
  /** The first wrong answer that a client got. @type {Error | null} */
  failure = null;
  #ended = new AbortController();
  #giveUpAt = Infinity;
  /** @type {Promise<unknown>} */
  #running = Promise.resolve();

  /** @param {import('./fleet.mjs').Fleet} fleet @param {string} phone the recipient */
  constructor(fleet, phone) {
    this.fleet = fleet;
    this.phone = phone;
  }

  start() {
    // Each lane listens for the end.
    setMaxListeners(0, this.#ended.signal);
    const lanes = this.fleet.accounts.flatMap(({ id }, account) => [
      ...priorities.map((priority) => this.#send(account, id, priority)),
      this.#campaign(account, id),
    ]);
    this.#running = Promise.all(
      lanes.map((lane) =>
        lane.catch((/** @type {unknown} */ error) => {
          this.failure ??= error instanceof Error ? error : new Error(String(error));
        }),
      ),
    );
  }

  /** Stops sending, and waits until each client has the answer to its last message. */
  async finish() {
    this.#giveUpAt = Date.now() + finishMs;
    this.#ended.abort();
    await this.#running;
    if (this.failure) throw this.failure;
  }

  /** Ends at once, without waiting for answers. */
  stop() {
    this.#giveUpAt = 0;
    this.#ended.abort();
  }

  /**
   * One client. It sends a message only after the previous message of its account and priority was accepted.
   *
   * @param {number} account
   * @param {string} accountId
   * @param {Priority} priority
   */
  async #send(account, accountId, priority) {
    for (let number = 0; await this.#goesOn(pausesMs[priority]); number += 1) {
      const text = textOf(account, priority, number);
      const turn = number % special.every;
      const isFor = (/** @type {string} */ lane, /** @type {number} */ wanted) =>
        priority === lane && turn === wanted;
      const body = {
        accountId,
        to: isFor('normal', special.unregistered) ? nobody : this.phone,
        text,
        priority,
        ...(isFor('high', special.expiring)
          ? { expiresAt: new Date(Date.now() + expiresInMs).toISOString() }
          : {}),
      };
      const message = await this.#post(body, text);
      // Its time was over before it was accepted.
      if (!message) continue;
      this.accepted.set(text, message.id);
      if (isFor('normal', special.cancelled)) await this.#cancel(message.id);
    }
  }

  /**
   * Repeats the same request with the same key until it is answered, as a client does.
   *
   * @param {Body} body
   * @param {string} key
   * @returns {Promise<{ id: string } | null>} null when it was too late
   */
  async #post(body, key) {
    const { api, key: apiKey } = this.fleet;
    const { status, body: message } = await this.#answered(
      `message ${key}`,
      body.expiresAt ? [202, 400] : [202],
      () => call('POST', `${api}/messages`, body, apiKey, { 'idempotency-key': key }, answerMs),
    );
    return status === 202 ? /** @type {{ id: string }} */ (message) : null;
  }

  /** @param {string} id */
  async #cancel(id) {
    const { api, key } = this.fleet;
    // 409: it is being sent, or is sent already.
    await this.#answered(`cancelling ${id}`, [200, 409], () =>
      call('DELETE', `${api}/messages/${id}`, undefined, key, {}, answerMs),
    );
  }

  /** @param {string} what @param {number[]} wanted @param {() => Promise<{ status: number, body: unknown }>} ask */
  async #answered(what, wanted, ask) {
    for (;;) {
      const answer = await ask().catch(() => null);
      if (answer && wanted.includes(answer.status)) return answer;
      // The API may still work on an earlier call.
      const problem = /** @type {{ code?: string } | undefined} */ (answer?.body);
      const isRunning = problem?.code === 'idempotency.in_progress';
      if (answer && answer.status < 500 && !isRunning) {
        throw new Error(`${what}: answered ${answer.status} ${JSON.stringify(answer.body)}`);
      }
      if (Date.now() > this.#giveUpAt)
        throw new Error(`${what}: not answered, last status ${answer?.status}`);
      await delay(retryMs);
    }
  }

  /** @param {number} account @param {string} accountId */
  async #campaign(account, accountId) {
    let number = 0;
    while (await this.#goesOn(campaignBatch.pauseMs)) {
      const rows = Array.from({ length: campaignBatch.rows }, () => ({
        id: uuidv7(),
        text: textOf(account, 'campaign', number++),
      }));
      for (;;) {
        const failure = await insertCampaign(
          this.fleet.stack.env.DATABASE_URL,
          accountId,
          this.phone,
          rows,
        ).then(
          () => null,
          (/** @type {unknown} */ error) => error,
        );
        if (!failure) break;
        if (Date.now() > this.#giveUpAt) throw failure;
        await delay(retryMs);
      }
      for (const { id, text } of rows) this.accepted.set(text, id);
    }
  }

  /** @param {number} pauseMs on average @returns whether to send another message */
  async #goesOn(pauseMs) {
    const { signal } = this.#ended;
    await delay(pauseMs * (0.5 + Math.random()), undefined, { signal }).catch(() => undefined);
    return !signal.aborted && !this.failure;
  }
}

/**
 * Inserts campaign messages as a campaign does. A repeated call with the same rows adds nothing.
 *
 * @param {string} databaseUrl
 * @param {string} accountId
 * @param {string} phone
 * @param {{ id: string, text: string }[]} rows
 */
async function insertCampaign(databaseUrl, accountId, phone, rows) {
  const client = new pg.Client({
    connectionString: databaseUrl,
    connectionTimeoutMillis: answerMs,
    query_timeout: answerMs,
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query(
      `insert into messages (id, workspace_id, account_id, direction, priority, type, chat_id, recipient, sender, text, status,
         whatsapp_id)
       select r.id, a.workspace_id, a.id, 'outgoing', 0, 'text', $2 || '@c.us', $2, a.phone_number, r.text, 'queued', r."whatsappId"
       from accounts a, jsonb_to_recordset($3::jsonb) r (number int, id uuid, text text, "whatsappId" text)
       where a.id = $1 order by r.number on conflict (id) do nothing`,
      [
        accountId,
        phone,
        JSON.stringify(rows.map((row, number) => ({ ...row, number, whatsappId: whatsappIdOf(row.id) }))),
      ],
    );
  } finally {
    await client.end().catch(() => undefined);
  }
}
