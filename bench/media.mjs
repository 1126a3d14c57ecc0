/**
 * The conversion of media: the time of a voice message from a minute of MP3, from the request to the answer, against the bare
 * ffmpeg call; and by how much the memory of the API grows beside 50 conversions that are wanted at the same time.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import sharp from 'sharp';
import { memoryOf } from '../setup/processes.mjs';
import { median } from './figures.mjs';
import { call, noLimits, startFleet } from './fleet.mjs';

const seconds = 60;
const rounds = 7;
const conversions = 50;
/** A workspace may have eight conversions at the same time. */
const workspaces = 7;
const recipient = '+6281234567890';

/** @typedef {{ key: string, accountId: string }} Tenant */

/** @param {{ log: (text: string) => void }} options */
export async function run({ log }) {
  const dir = mkdtempSync(join(tmpdir(), 'flotilla-bench-media-'));
  const fleet = await startFleet({
    accounts: 0,
    instances: 1,
    env: { RATE_LIMIT_PER_KEY: '0', RATE_LIMIT_PER_WORKSPACE: '0' },
  });
  const { stack } = fleet;
  const api = `${stack.urls.api}/api/v1`;
  try {
    const mp3 = join(dir, 'minute.mp3');
    ffmpeg(['-f', 'lavfi', '-i', `aevalsrc=0.3*sin(2*PI*t*(300+100*sin(t))):d=${seconds}`, mp3]);
    const avif = join(dir, 'photo.avif');
    const noise = { type: /** @type {const} */ ('gaussian'), mean: 128, sigma: 30 };
    await sharp({ create: { width: 4_000, height: 3_000, channels: 3, background: 'white', noise } })
      .avif({ effort: 0, quality: 40 })
      .toFile(avif);

    /** @type {Tenant[]} */
    const tenants = [];
    for (let number = 0; number < workspaces; number += 1)
      tenants.push(await newTenant(api, stack.env.ADMIN_API_KEY));
    const sounds = await Promise.all(tenants.map(({ key }) => upload(api, key, mp3)));
    const pictures = await Promise.all(tenants.map(({ key }) => upload(api, key, avif)));
    const convert = async (/** @type {number} */ number, /** @type {string} */ type) => {
      const tenant = /** @type {Tenant} */ (tenants[number % workspaces]);
      const mediaId = (type === 'voice' ? sounds : pictures)[number % workspaces];
      await sendUntilTaken(api, tenant, { type, media: { mediaId } });
    };

    /** @type {number[]} */
    const bare = [];
    /** @type {number[]} */
    const ours = [];
    for (let round = 0; round < rounds; round += 1) {
      const started = performance.now();
      ffmpeg([
        '-i',
        mp3,
        '-c:a',
        'libopus',
        '-b:a',
        '32k',
        '-ac',
        '1',
        '-ar',
        '48000',
        '-f',
        'ogg',
        join(dir, 'out'),
      ]);
      bare.push(performance.now() - started);
      const asked = performance.now();
      await convert(round, 'voice');
      ours.push(performance.now() - asked);
    }
    const ratio = median(ours) / median(bare);
    log(`a minute of MP3: ${Math.round(median(ours))} ms, bare ${Math.round(median(bare))} ms`);

    const pid = (await stack.status()).get('flotilla:api')?.pid ?? 0;
    /** @type {Record<string, number>} */
    const growth = {};
    for (const type of ['voice', 'image']) {
      await delay(2_000);
      const before = memoryOf(pid);
      let highest = before;
      const watch = setInterval(() => (highest = Math.max(highest, memoryOf(pid))), 50);
      const started = performance.now();
      try {
        await Promise.all(Array.from({ length: conversions }, (_item, number) => convert(number, type)));
      } finally {
        clearInterval(watch);
      }
      growth[type] = (highest - before) / 2 ** 20;
      log(`${conversions} of ${type}: ${Math.round(performance.now() - started)} ms`);
    }
    const [voiceGrowth = NaN, imageGrowth = NaN] = [growth.voice, growth.image];
    const load = loadavg()[0] ?? NaN;
    return {
      bareMs: median(bare),
      oursMs: median(ours),
      ratio,
      growthMiB: growth,
      load,
      rows: [
        { what: 'a minute of MP3 by the bare ffmpeg', value: `${Math.round(median(bare))} ms` },
        {
          what: 'the same as a voice message, from request to answer',
          value: `${Math.round(median(ours))} ms`,
        },
        { what: 'ratio', value: ratio.toFixed(2), target: '<= 2' },
        {
          what: `growth of the API's memory beside ${conversions} voice messages`,
          value: `${voiceGrowth.toFixed(1)} MiB`,
          target: '<= 30 MB',
        },
        {
          what: `growth of the API's memory beside ${conversions} AVIF photos of 12 megapixels`,
          value: `${imageGrowth.toFixed(1)} MiB`,
          target: '<= 30 MB',
        },
        { what: 'load of the machine at the end', value: load.toFixed(1) },
      ],
      missed: [
        ...(ratio > 2 ? [`a voice message takes ${ratio.toFixed(2)} times the bare call`] : []),
        ...Object.entries(growth)
          .filter(([, mebibytes]) => mebibytes * 2 ** 20 > 30e6)
          .map(([type, mebibytes]) => `the API grew by ${mebibytes.toFixed(1)} MiB beside ${type}`),
      ],
    };
  } finally {
    rmSync(dir, { recursive: true, force: true });
    await stack.stop();
  }
}

/** @param {string[]} given */
function ffmpeg(given) {
  execFileSync('ffmpeg', ['-nostdin', '-loglevel', 'error', '-y', ...given]);
}

/** A workspace with an account that is not linked: its messages wait. @param {string} api @param {string | undefined} admin */
async function newTenant(api, admin) {
  /** @type {{ body: { id: string } }} */
  const { body: workspace } = await call(
    'POST',
    `${api}/workspaces`,
    { name: 'media', limits: noLimits },
    admin,
  );
  const wanted = { name: 'media', role: 'owner' };
  /** @type {{ body: { key: string } }} */
  const { body } = await call('POST', `${api}/workspaces/${workspace.id}/api-keys`, wanted, admin);
  /** @type {{ body: { id: string } }} */
  const { body: account } = await call('POST', `${api}/accounts`, { name: 'media' }, body.key);
  return { key: body.key, accountId: account.id };
}

/** @param {string} api @param {string} key @param {string} path @returns the id of the media */
async function upload(api, key, path) {
  const form = new FormData();
  form.append('file', new Blob([readFileSync(path)]), 'file');
  const answer = await fetch(`${api}/media`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}` },
    body: form,
  });
  if (answer.status !== 201) throw new Error(`an upload was answered ${answer.status}`);
  return /** @type {{ mediaId: string }} */ (await answer.json()).mediaId;
}

/**
 * Sends a message. While too many conversions wait, it does what the answer says, as a client would.
 *
 * @param {string} api
 * @param {Tenant} tenant
 * @param {object} message
 */
async function sendUntilTaken(api, { key, accountId }, message) {
  for (;;) {
    const body = { accountId, to: recipient, ...message };
    const { status, body: answer } = await call('POST', `${api}/messages`, body, key);
    if (status === 202) return;
    if (status !== 429) throw new Error(`a message was answered ${status}: ${JSON.stringify(answer)}`);
    await delay(1_000);
  }
}
