/**
 * A campaign over four accounts while its programs and data stores are killed and it is paused and resumed again and again. The ledger of
 * the sandbox judges: every recipient gets the message once, and the counts say the same.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { call, eventually, newPhone, readLedger, startFleet } from './fleet.mjs';

const recipients = 5_000;
const faultEveryMs = 2_500;
const pausedMs = 700;
const callMs = 5_000;
const maxMs = 300_000;
const victims = [
  'flotilla:worker_00',
  'flotilla:instance_00',
  'flotilla:scheduler',
  'flotilla:instance_01',
  'flotilla:api',
  'flotilla:worker_01',
  'flotilla-data:redis',
  'flotilla-data:postgres',
];

/** @typedef {{ id: string, status: string, counts: Record<string, number> }} Campaign */

/** @param {{ log: (text: string) => void }} options */
export async function run({ log }) {
  const { stack, api, key, accounts } = await startFleet({ accounts: 4, instances: 2, workers: 2 });
  const { sandbox } = stack.urls;
  try {
    /** @type {string[]} */
    const phones = [];
    for (let number = 0; number < recipients; number += 1) phones.push(await newPhone(sandbox));
    const accountIds = accounts.map(({ id }) => id);
    /** @type {{ body: Campaign }} */
    const { body: made } = await call(
      'POST',
      `${api}/campaigns`,
      { name: 'chaos', accountIds, message: { text: 'chaos-{{code}}' } },
      key,
    );
    const path = `${api}/campaigns/${made.id}`;
    const list = phones.map((to, number) => ({ to, variables: { code: number } }));
    await call('POST', `${path}/recipients`, { recipients: list }, key);
    await call('POST', `${path}/start`, {}, key);

    // The API may be one of the dead.
    const ask = (/** @type {string} */ method, /** @type {string} */ url) =>
      /** @type {Promise<{ status: number, body: Campaign }>} */ (
        call(method, url, method === 'POST' ? {} : undefined, key, {}, callMs)
      ).catch(() => null);
    const started = performance.now();
    let [faults, pauses] = [0, 0];
    for (let status = ''; status !== 'completed' && performance.now() - started < maxMs;) {
      await delay(faultEveryMs);
      const answer = await ask('GET', path);
      status = answer?.body.status ?? '';
      if (status === 'completed') break;
      if (faults % 3 === 2) {
        pauses += (await ask('POST', `${path}/pause`))?.status === 200 ? 1 : 0;
        await delay(pausedMs);
      }
      await ask('POST', `${path}/resume`);
      // Supervisord may just be starting it again.
      const pid = await stack.kill(victims[faults % victims.length] ?? '').catch(() => 0);
      if (pid > 0) faults += 1;
    }
    const seconds = (performance.now() - started) / 1000;
    const campaign = await eventually('the end', async () => {
      const answer = await ask('GET', path);
      return answer?.body.status === 'completed' && answer.body;
    });
    log(`completed in ${seconds.toFixed(0)} s, ${faults} kills, ${pauses} pauses`);
    const entries = (await readLedger(sandbox)).filter(({ text }) => text.startsWith('chaos-'));
    const received = entries.filter(({ duplicate }) => !duplicate).map(({ to }) => to);
    const once = new Set(received).size;
    const { sent = 0, delivered = 0, read = 0 } = campaign.counts;
    return {
      kills: faults,
      pauses,
      seconds,
      counts: campaign.counts,
      rows: [
        { what: 'recipients; kills; pauses', value: `${recipients}; ${faults}; ${pauses}` },
        {
          what: 'recipients who got nothing, or got it twice',
          value: `${recipients - once}, ${received.length - once}`,
          target: '0, 0',
        },
        {
          what: 'sent by the counts of the campaign, received by the ledger',
          value: `${sent + delivered + read}, ${received.length}`,
          target: 'equal',
        },
        {
          what: 'repeated under its id, dropped by the recipient',
          value: String(entries.length - received.length),
        },
      ],
    };
  } finally {
    await stack.stop();
  }
}
