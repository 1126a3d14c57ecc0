import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { june } from '../../src/sandbox/builds/june.js';
import { september } from '../../src/sandbox/builds/september.js';
import type { WebPage } from '../../src/whatsapp/web-page.js';
import { WhatsAppSession } from '../../src/whatsapp/whatsapp-session.js';
import { chromiumPath, SandboxHarness, until } from './sandbox.harness.js';

/* The page that a session gets: the page that WhatsApp serves, or the page of an older version. */

let sandbox: SandboxHarness;
let phone: string;
let friend: string;
interface Started {
  session: WhatsAppSession;
  loaded: { version: string | null; html: string | null }[];
  closed: { reason: string; detail: string } | null;
  /** Why it did not start. */
  failure: unknown;
}
let open: Started[] = [];
/** The pages as the sandbox serves them. */
const pages: Record<string, WebPage> = {};

/** Starts a session of one linked account, as an instance does. */
async function start(webPage: WebPage | null): Promise<Started> {
  const session = new WhatsAppSession({
    accountId: 'one',
    profileDir: join(sandbox.dir, 'session-one'),
    chromiumPath,
    network: { kind: 'sandbox', host: '127.0.0.1', port: sandbox.server.port, spki: sandbox.server.spki },
    webPage,
    pairWithPhoneNumber: null,
    deadlines: { launchMs: 20_000, loadMs: 20_000, syncMs: 20_000 },
    canStart: () => true,
    onWarning: () => undefined,
  });
  const started: Started = { session, loaded: [], closed: null, failure: null };
  session.on('web', ({ version }) => started.loaded.push({ version, html: session.takeServedPage() }));
  session.on('closed', (reason, detail) => (started.closed = { reason, detail }));
  session.on('qr', (qr) => void sandbox.call('POST', `/phones/${phone}/scan`, { qr }));
  open.push(started);
  await session.start().catch((error: unknown) => (started.failure = error));
  return started;
}

async function stop({ session }: Started): Promise<void> {
  await session.stop({ finishSendsMs: 0, closeMs: 2_000 });
  open = open.filter((other) => other.session !== session);
}

let sends = 0;
async function send(session: WhatsAppSession) {
  sends += 1;
  return session.send({
    chatId: `${friend}@c.us`,
    content: { type: 'text', text: `text ${sends}` },
    quoted: null,
    mentions: [],
    whatsappId: `3EB0${String(sends).padStart(18, '0')}`,
    searchStorage: false,
    lookOnly: false,
    mayResend: false,
    timeoutMs: 5_000,
    typingMs: 0,
    checkNumber: false,
  });
}

beforeAll(async () => {
  sandbox = await SandboxHarness.start();
  [phone, friend] = [await sandbox.phone(), await sandbox.phone()];
}, 60_000);

afterAll(async () => {
  await Promise.all(open.map((started) => stop(started)));
  await sandbox?.stop();
}, 30_000);

describe('the page of a session', { timeout: 60_000 }, () => {
  it('is read as WhatsApp serves it, with its version', async () => {
    for (const { name, version } of [june, september]) {
      await sandbox.call('PUT', '/build', { version });
      const started = await start(null);
      const [loaded] = await until('loaded', () => started.loaded.length > 0 && started.loaded);
      expect(loaded).toEqual({ version, html: expect.stringContaining(version) });
      expect(started.session.hasGivenPage).toBe(false);
      pages[name] = loaded as WebPage;
      await stop(started);
    }
  });

  it('is the given page of an older version, also when the page loads itself again, until another page is given', async () => {
    const { session, loaded } = await start(pages.june!);
    await until('ready', () => session.ready);
    expect(loaded).toEqual([{ version: june.version, html: null }]);
    expect(session).toMatchObject({ webVersion: june.version, hasGivenPage: true });
    expect(await send(session)).toMatchObject({ outcome: 'known' });

    const loadAgain = async () => {
      const before = loaded.length;
      await sandbox.call('PUT', '/faults', { reloadAfterSendRate: 1 });
      await send(session).catch(() => undefined);
      await sandbox.call('DELETE', '/faults');
      await until('loaded again', () => loaded.length > before && session.ready);
      return loaded.at(-1)!.version;
    };
    expect(await loadAgain()).toBe(june.version);
    await session.give(null);
    expect(await loadAgain()).toBe(september.version);
    expect(session.hasGivenPage).toBe(false);
    await session.give(pages.june!);
    expect(await loadAgain()).toBe(june.version);
    expect(await send(session)).toMatchObject({ outcome: 'known' });
    await stop(open[0]!);
  });

  const retired = { oldestVersion: september.version };

  it('does not start with a version that WhatsApp has retired, and says which', async () => {
    await sandbox.call('PUT', '/faults', retired);
    const old = await start(pages.june!);
    const closed = await until('closed', () => old.closed);
    expect(closed).toMatchObject({
      reason: 'version_refused',
      detail: expect.stringContaining(june.version),
    });
    await sandbox.call('PUT', '/faults', { ...retired, updateLoop: true });
    const looping = await start(pages.june!);
    // The page may load itself again before the library has started, or after that.
    const refusal = await until('refused', () => looping.failure ?? looping.closed?.detail);
    expect(String(refusal)).toContain(june.version);
    const served = await start(null);
    await until('ready', () => served.session.ready);
    expect(served.session.webVersion).toBe(september.version);
    await stop(served);
    await sandbox.call('DELETE', '/faults');
  });

  it.each([
    ['says so', false],
    ['loads itself for ever', true],
  ])('ends a ready session when WhatsApp retires its version and the page %s', async (_what, updateLoop) => {
    const started = await start(pages.june!);
    await until('ready', () => started.session.ready);
    await sandbox.call('PUT', '/faults', { ...retired, updateLoop });
    expect(await until('closed', () => started.closed)).toMatchObject({
      reason: 'version_refused',
      detail: expect.stringContaining(june.version),
    });
    await sandbox.call('DELETE', '/faults');
  });
});
