/** What clients do during a chaos run: messages of all four priorities on every account, a few a second, all the time. */
import { setMaxListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { v7 as uuidv7 } from 'uuid';
import { whatsappIdOf } from '../dist/src/messages/message.entity.js';
import { call } from './fleet.mjs';

/** How long one client waits on average between its messages, for each priority. */
const pausesMs = { urgent: 4_000, high: 3_000, normal: 2_000 };
const campaignBatch = { rows: 4, pauseMs: 4_000 };
const answerMs = 5_000;
const retryMs = 200;
/** How long after the end a client may go on asking for the answer that it lacks. */
const finishMs = 120_000;
/** Every so many messages of some lanes are to end in another way: the number within so many, and the way. */
const special = { every: 20, cancelled: 7, unregistered: 13, expiring: 7 };
const expiresInMs = 2_000;
/** A number without WhatsApp. */
const nobody = '+628129999999';

/** The text of a message says where it belongs, so that the ledger alone can be judged. */
export function textOf(account, priority, number) {
  return `chaos/${account}/${priority}/${String(number).padStart(7, '0')}`;
}

export class ChaosLoad {
  /** What was accepted, by text. @type {Map<string, string>} the id of the message */
  accepted = new Map();
  /** The first answer that no client should get. @type {Error | null} */
  failure = null;
  #ended = new AbortController();
  #giveUpAt = Infinity;
  /** @type {Promise<unknown>} */
  #running = Promise.resolve();

  /** @param {Awaited<ReturnType<typeof import('./fleet.mjs').startFleet>>} fleet @param {string} phone the recipient */
  constructor(fleet, phone) {
    this.fleet = fleet;
    this.phone = phone;
  }

  start() {
    // Each lane listens for the end.
    setMaxListeners(0, this.#ended.signal);
    const lanes = this.fleet.accounts.flatMap(({ id }, account) => [
      ...Object.keys(pausesMs).map((priority) => this.#send(account, id, priority)),
      this.#campaign(account, id),
    ]);
    this.#running = Promise.all(
      lanes.map((lane) =>
        lane.catch((error) => {
          this.failure ??= error;
        }),
      ),
    );
  }

  /** Sends nothing new, and waits until each client knows what became of its last message. */
  async finish() {
    this.#giveUpAt = Date.now() + finishMs;
    this.#ended.abort();
    await this.#running;
    if (this.failure) throw this.failure;
  }

  /** Ends at once, whatever is not answered. */
  stop() {
    this.#giveUpAt = 0;
    this.#ended.abort();
  }

  /** One client: the next message of its account and priority only when the last one has been accepted. */
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
      // Asked again after its time: it was never accepted.
      if (!message) continue;
      this.accepted.set(text, message.id);
      if (isFor('normal', special.cancelled)) await this.#cancel(message.id);
    }
  }

  /** As a client does it: the same request with the same key, until it is answered. @returns null when it was too late */
  async #post(body, key) {
    const { api, key: apiKey } = this.fleet;
    const { status, body: message } = await this.#answered(
      `message ${key}`,
      body.expiresAt ? [202, 400] : [202],
      () => call('POST', `${api}/messages`, body, apiKey, { 'idempotency-key': key }, answerMs),
    );
    return status === 202 ? message : null;
  }

  async #cancel(id) {
    const { api, key } = this.fleet;
    // 409: it is being sent, or was.
    await this.#answered(`cancelling ${id}`, [200, 409], () =>
      call('DELETE', `${api}/messages/${id}`, undefined, key, {}, answerMs),
    );
  }

  /** @param {string} what @param {number[]} wanted @param {() => Promise<{ status: number, body: any }>} ask */
  async #answered(what, wanted, ask) {
    for (;;) {
      const answer = await ask().catch(() => null);
      if (answer && wanted.includes(answer.status)) return answer;
      // The call that was given up may still be running.
      const isRunning = answer?.body?.code === 'idempotency.in_progress';
      if (answer && answer.status < 500 && !isRunning) {
        throw new Error(`${what}: answered ${answer.status} ${JSON.stringify(answer.body)}`);
      }
      if (Date.now() > this.#giveUpAt)
        throw new Error(`${what}: not answered, the last time ${answer?.status}`);
      await delay(retryMs);
    }
  }

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
          (error) => error,
        );
        if (!failure) break;
        if (Date.now() > this.#giveUpAt) throw failure;
        await delay(retryMs);
      }
      for (const { id, text } of rows) this.accepted.set(text, id);
    }
  }

  /** @param {number} pauseMs on average @returns whether there is to be another message */
  async #goesOn(pauseMs) {
    const { signal } = this.#ended;
    await delay(pauseMs * (0.5 + Math.random()), undefined, { signal }).catch(() => undefined);
    return !signal.aborted && !this.failure;
  }
}

/**
 * Puts campaign messages into the ledger, as a campaign would: there is no API for them yet. Trying again with the same
 * rows adds none twice.
 * @param {string} databaseUrl @param {string} accountId @param {string} phone @param {{ id: string, text: string }[]} rows
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
