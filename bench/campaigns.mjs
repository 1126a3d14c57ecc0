/**
 * Campaigns with many recipients: loading a list against `COPY` of the same rows into the same table, the same list again, a message's
 * cost with many and with few recipients, and how fast a pause and a cancellation work.
 */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { from as copyFrom } from 'pg-copy-streams';
import { request } from 'undici';
import { v7 as uuidv7 } from 'uuid';
import { parseJson } from '../setup/json.mjs';
import { memoryOf } from '../setup/processes.mjs';
import { withDatabase } from './backlog.mjs';
import { sum } from './figures.mjs';
import { call, cpuTimes, eventually, newPhone, readLedger, startFleet } from './fleet.mjs';

/** So many recipients of each campaign have a phone; they are the first ones. */
const phoneCount = 1_000;
const accountCount = 2;
const sampleMs = 100;

/** @typedef {{ accepted: number, duplicates: number, invalidCount: number }} Loaded */
/** @typedef {{ id: string, status: string, counts: Record<string, number> }} Campaign */

/** @param {{ rows: number, log: (text: string) => void }} options */
export async function run({ rows, log }) {
  const { stack, api, key, accounts } = await startFleet({ accounts: accountCount, instances: 1 });
  const { sandbox } = stack.urls;
  try {
    /** @type {string[]} */
    const phones = [];
    for (let number = 0; number < phoneCount; number += 1) phones.push(await newPhone(sandbox));
    const accountIds = accounts.map(({ id }) => id);
    /** @returns {Promise<string>} */
    const newCampaign = async (/** @type {string} */ name) => {
      const message = { text: `${name} {{name|friend}}, your code is {{code}}` };
      /** @type {{ status: number, body: Campaign }} */
      const { status, body } = await call('POST', `${api}/campaigns`, { name, accountIds, message }, key);
      if (status !== 201) throw new Error(`the campaign was refused: ${JSON.stringify(body)}`);
      return body.id;
    };
    const get = async (/** @type {string} */ id) =>
      /** @type {{ body: Campaign }} */ (await call('GET', `${api}/campaigns/${id}`, undefined, key)).body;
    const act = async (/** @type {string} */ id, /** @type {string} */ action) => {
      const started = performance.now();
      const { status, body } = await call('POST', `${api}/campaigns/${id}/${action}`, undefined, key);
      if (status !== 200) throw new Error(`${action} answered ${status}: ${JSON.stringify(body)}`);
      return performance.now() - started;
    };

    const apiPid = (await stack.status()).get('flotilla:api')?.pid ?? 0;
    const memoryBefore = memoryOf(apiPid);
    let memoryMost = memoryBefore;
    const watch = setInterval(() => (memoryMost = Math.max(memoryMost, memoryOf(apiPid))), sampleMs);
    const large = await newCampaign('large');
    const first = await load(api, key, large, phones, rows);
    log(`loaded in ${first.seconds.toFixed(1)} s`);
    const again = await load(api, key, large, phones, rows);
    clearInterval(watch);
    const copySeconds = await copy(stack.env.DATABASE_URL, large);
    log(`copied in ${copySeconds.toFixed(1)} s`);

    const preflightMs = await act(large, 'preflight');

    const costOf = async (/** @type {string} */ id) => {
      const from = (await readLedger(sandbox)).at(-1)?.seq ?? 0;
      const before = sum(Object.values(await cpuTimes(stack)));
      const started = performance.now();
      await act(id, 'start');
      await eventually(
        'sent',
        async () => (await readLedger(sandbox, from)).length >= phoneCount * 0.95,
        300_000,
        500,
      );
      const sent = (await readLedger(sandbox, from)).length;
      const ms = (sum(Object.values(await cpuTimes(stack))) - before) / sent;
      return { ms, perSecond: sent / ((performance.now() - started) / 1000) };
    };
    const small = await newCampaign('small');
    await load(api, key, small, phones, phoneCount);
    const few = await costOf(small);
    await eventually('completed', async () => (await get(small)).status === 'completed');
    const many = await costOf(large);

    // Everybody whom it writes to now has no phone: that is an attempt of the account too.
    const pauseMs = await act(large, 'pause');
    await delay(1_000);
    const { counts: atPause } = await get(large);
    await delay(3_000);
    const { counts: later } = await get(large);
    const leftAfterPause = (atPause.queued ?? 0) - (later.queued ?? 0);
    await act(large, 'resume');
    await eventually('it goes on', async () => ((await get(large)).counts.queued ?? 0) < (later.queued ?? 0));
    const cancelMs = await act(large, 'cancel');
    await delay(1_000);
    const { counts: atCancel } = await get(large);
    await delay(3_000);
    const { counts: afterCancel } = await get(large);
    const leftAfterCancel = (afterCancel.cancelled ?? 0) - (atCancel.cancelled ?? 0);

    const rate = rows / first.seconds;
    const grown = (memoryMost - memoryBefore) / 1e6;
    return {
      recipients: rows,
      load: first,
      again,
      copySeconds,
      memoryMb: grown,
      preflightMs,
      few,
      many,
      pauseMs,
      cancelMs,
      leftAfterPause,
      leftAfterCancel,
      rows: [
        {
          what: `loading ${rows} recipients from CSV, against COPY of the same rows`,
          value: `${(copySeconds / first.seconds).toFixed(2)} (${Math.round(rate)}/s, COPY ${Math.round(rows / copySeconds)}/s)`,
          target: '>= 0.3',
        },
        { what: 'memory of the API meanwhile, MB', value: `+${grown.toFixed(0)}`, target: '<= 100' },
        {
          what: 'the same list again, s (the first time, s); new recipients',
          value: `${again.seconds.toFixed(1)} (${first.seconds.toFixed(1)}); ${again.accepted}`,
          target: '<= the first time; 0',
        },
        { what: `preflight of ${rows}, s`, value: (preflightMs / 1000).toFixed(1), target: '<= 10' },
        {
          what: `processor ms for a message of ${rows} recipients, against ${phoneCount}`,
          value: `${(many.ms / few.ms).toFixed(2)} (${many.ms.toFixed(1)} and ${few.ms.toFixed(1)}; ${many.perSecond.toFixed(0)}/s and ${few.perSecond.toFixed(0)}/s)`,
          target: '<= 1.2',
        },
        {
          what: `pause, cancel with ${rows} waiting, ms`,
          value: `${pauseMs.toFixed(0)}, ${cancelMs.toFixed(0)}`,
          target: '<= 1000',
        },
        {
          what: 'messages that began more than a second after a pause, a cancellation',
          value: `${leftAfterPause}, ${leftAfterCancel}`,
          target: '0',
        },
      ],
    };
  } finally {
    await stack.stop();
  }
}

/**
 * Uploads a list: first the phones that exist, then numbers that have no phone.
 *
 * @param {string} api
 * @param {string} key
 * @param {string} campaignId
 * @param {string[]} phones
 * @param {number} rows
 */
async function load(api, key, campaignId, phones, rows) {
  const started = performance.now();
  const { statusCode, body } = await request(`${api}/campaigns/${campaignId}/recipients`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'text/csv' },
    body: Readable.from(csv(phones, rows)),
    headersTimeout: 0,
  });
  const loaded = /** @type {Loaded} */ (parseJson(await body.text()));
  if (statusCode !== 200) throw new Error(`the list was refused: ${JSON.stringify(loaded)}`);
  if (loaded.accepted + loaded.duplicates !== rows)
    throw new Error(`lines are missing: ${JSON.stringify(loaded)}`);
  return { ...loaded, seconds: (performance.now() - started) / 1000 };
}

/** @param {string[]} phones @param {number} rows */
function* csv(phones, rows) {
  yield 'phone,name,code\n';
  for (let line = 0; line < rows; line += 1_000) {
    let part = '';
    for (let number = line; number < Math.min(rows, line + 1_000); number += 1)
      part += `+${phones[number] ?? 6_285_700_000_000 + number},Person ${number},C-${number}\n`;
    yield part;
  }
}

/** Copies the recipients of a campaign into another one. @param {string} databaseUrl @param {string} campaignId @returns seconds */
async function copy(databaseUrl, campaignId) {
  return withDatabase(databaseUrl, async (client) => {
    const other = uuidv7();
    await client.query(
      `insert into campaigns (id, workspace_id, name, message) select $1, workspace_id, 'copy', message from campaigns where id = $2`,
      [other, campaignId],
    );
    /** @type {import('pg').QueryResult<{ line: string }>} */
    const { rows } = await client.query(
      `select concat_ws(e'\\t', $1::text, id, workspace_id, person, recipient, variables) as line
       from campaign_recipients where campaign_id = $2 order by id`,
      [other, campaignId],
    );
    /** @type {string[]} */
    const parts = [];
    for (let at = 0; at < rows.length; at += 1_000)
      parts.push(
        `${rows
          .slice(at, at + 1_000)
          .map(({ line }) => line)
          .join('\n')}\n`,
      );
    const started = performance.now();
    await pipeline(
      Readable.from(parts),
      client.query(
        copyFrom(
          'copy campaign_recipients (campaign_id, id, workspace_id, person, recipient, variables) from stdin',
        ),
      ),
    );
    const seconds = (performance.now() - started) / 1000;
    await client.query('delete from campaigns where id = $1', [other]);
    return seconds;
  });
}
