import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Damage } from '../../src/sandbox/builds/build.js';
import { builds } from '../../src/sandbox/builds/builds.js';
import type { WebState } from '../../src/whatsapp/session-events.js';
import { WhatsAppSession } from '../../src/whatsapp/whatsapp-session.js';
import { chromiumPath, SandboxHarness, until } from './sandbox.harness.js';

declare const window: {
  require: (name: string) => unknown;
  flotilla?: { send?: unknown; findOwn?: () => Promise<undefined> };
};

let sandbox: SandboxHarness;
let session: WhatsAppSession;
let phone: string;
let friend: string;
/** What the present session has told. */
let told: string[] = [];
let web: WebState[] = [];
let texts: string[] = [];

/** Opens the account in a browser. `broken` is what WhatsApp has broken in the build. */
async function open(
  version: string,
  broken?: Damage,
  { ignored = [], loadMs = 20_000 }: { ignored?: string[]; loadMs?: number } = {},
): Promise<void> {
  [told, web, texts] = [[], [], []];
  const put = await sandbox.call('PUT', '/build', { version, ...(broken ? { damage: broken } : {}) });
  expect(put.status).toBe(200);
  session = new WhatsAppSession({
    accountId: 'contract',
    profileDir: join(sandbox.dir, 'session-contract'),
    chromiumPath,
    network: { kind: 'sandbox', host: '127.0.0.1', port: sandbox.server.port, spki: sandbox.server.spki },
    pairWithPhoneNumber: null,
    deadlines: { launchMs: 20_000, loadMs, syncMs: 20_000 },
    web: { recheckMs: 600_000, ignored },
    canStart: () => true,
    onWarning: () => undefined,
  });
  session.on('qr', (qr) => void sandbox.call('POST', `/phones/${phone}/scan`, { qr }));
  session.on('ready', () => told.push('ready'));
  session.on('closed', (reason, detail) => told.push(`${reason}: ${detail}`));
  session.on('web', (state) => web.push(state));
  session.on('message', ({ text }) => texts.push(text));
  await session.start();
}

const broken = () => until('a broken contract', () => web.find(({ contract }) => contract === 'broken'));
const ready = (times = 1) => until('ready', () => told.filter((what) => what === 'ready').length >= times);

const send = (text: string) =>
  session.send({
    chatId: `${friend}@c.us`,
    content: { type: 'text', text },
    quoted: null,
    mentions: [],
    whatsappId: `3EB0${crypto.randomUUID().replaceAll('-', '').slice(0, 18).toUpperCase()}`,
    searchStorage: false,
    lookOnly: false,
    mayResend: false,
    timeoutMs: 5_000,
    typingMs: 0,
    checkNumber: false,
  });

/** The page is whole again, and is loaded again: as after an operator's `POST /accounts/:id/connect`. */
async function heal(version: string, times: number): Promise<void> {
  await sandbox.call('PUT', '/build', { version });
  session.recheck();
  await until('a contract that holds', () => web.at(-1)?.contract === 'ok');
  await ready(times);
  expect(web.at(-1)!.missing).toEqual([]);
  expect(await send('healed')).toMatchObject({ outcome: 'known' });
}

beforeAll(async () => {
  sandbox = await SandboxHarness.start();
  [phone, friend] = [await sandbox.phone(), await sandbox.phone()];
}, 60_000);

afterEach(async () => {
  vi.restoreAllMocks();
  await session.stop({ finishSendsMs: 0, closeMs: 0 });
}, 30_000);
afterAll(() => sandbox?.stop(), 30_000);

it.each(builds)('the build $name has everything', { timeout: 60_000 }, async ({ version }) => {
  await open(version);
  await ready();
  expect(web).toEqual([{ version, contract: 'ok', missing: [] }]);
});

describe('a page that lacks what sending needs', { timeout: 60_000 }, () => {
  it.each<[string, string, Damage, string]>([
    ['a module', 'june', { missing: ['WAWebMsgKey'] }, 'WAWebMsgKey'],
    [
      'a function, which has another name now',
      'june',
      { missing: ['WAWebSendMsgChatAction.addAndSendMsgToChat'] },
      'WAWebSendMsgChatAction.addAndSendMsgToChat()',
    ],
    [
      'a member deep in a module',
      'july',
      { missing: ['WAWebCollections.Msg.getMessagesById'] },
      'WAWebCollections.Msg.getMessagesById()',
    ],
    [
      'the text of message keys',
      'september',
      { keysWithoutText: true },
      'WAWebMsgKey: a key has its text in an own field',
    ],
    [
      'media that the shim can mend',
      'september',
      { frozen: ['WAWebSendMsgChatAction'] },
      'WAWebSendMsgChatAction.addAndSendMsgToChat: media comes without __x_id',
    ],
    [
      'media types that it knew',
      'september',
      { throwing: ['WAWebMmsMediaTypes.castToV4'] },
      'WAWebMmsMediaTypes.castToV4: it takes IMAGE',
    ],
    [
      'a look-up by key that works',
      'september',
      { blindLookups: true },
      'WAWebCollections.Msg.get: a message that the page holds is found by its key',
    ],
  ])('%s: names it, stays connected, and receives', async (_what, build, damage, name) => {
    await open(build, damage);
    await ready();
    const { missing } = await broken();
    expect(missing[0]).toBe(name);
    await sandbox.call('POST', `/phones/${friend}/messages`, { to: phone, text: `hello, ${name}` });
    await until('the message', () => texts.includes(`hello, ${name}`));
    expect(told).toEqual(['ready']);
  });

  it('is used again after it was loaded whole', async () => {
    await open('september', { missing: ['WAWebFindChatAction'] });
    await ready();
    expect((await broken()).missing[0]).toBe('WAWebFindChatAction');
    await heal('september', 2);
    expect(told).toEqual(['ready', 'ready']);
  });

  it('after a load that WhatsApp made, is found too; once whole, it is used again without a load', async () => {
    await open('september');
    await ready();
    await sandbox.call('PUT', '/build', {
      version: 'september',
      damage: { missing: ['WAWebFindChatAction'] },
    });
    await session['page'].reload();
    expect((await broken()).missing[0]).toBe('WAWebFindChatAction');
    await ready(2);
    await session['page'].evaluate(() => {
      const real = window.require;
      const chatAction = { findOrCreateLatestChat: () => Promise.reject(new Error('not called')) };
      window.require = (name) => (name === 'WAWebFindChatAction' ? chatAction : real(name));
    });
    const now = performance.now.bind(performance);
    vi.spyOn(performance, 'now').mockImplementation(() => now() + 30_000);
    await until('a contract that holds', () => web.at(-1)?.contract === 'ok');
    // What came meanwhile is read.
    await ready(3);
    expect(told).toEqual(['ready', 'ready', 'ready']);
    expect(await session['page'].evaluate(() => typeof window.flotilla?.send)).toBe('function');
  });

  it('that whatsapp-web.js does not get ready in, stays connected too', async () => {
    await open('september', { missing: ['WAWebSyncGatingUtils'] });
    await ready();
    expect((await broken()).missing).toEqual(['WAWebSyncGatingUtils']);
    await heal('september', 2);
    expect(told).toEqual(['ready', 'ready']);
  });

  it('that whatsapp-web.js does not start in, keeps its browser until it is whole', async () => {
    await open('september', { missing: ['WAWebSocketModel'] });
    expect(await broken()).toEqual({
      version: builds.at(-1)!.version,
      contract: 'broken',
      missing: ['WAWebSocketModel'],
    });
    expect(told).toEqual([]);
    await heal('september', 1);
    expect(told).toEqual(['ready']);
  });
});

it(
  'a message that the page does not find counts as sent when its ack comes',
  { timeout: 60_000 },
  async () => {
    await open('september', { blindLookups: true });
    await ready();
    const sent = await send('acknowledged');
    expect(sent).toMatchObject({ outcome: 'known', ack: expect.any(Number) });
    // A look-up that finds nothing at all, also not among the messages in memory.
    await session['page'].evaluate(() => void (window.flotilla!.findOwn = async () => undefined));
    expect(await send('not found')).toMatchObject({ outcome: 'known', isUnfound: true });
    for (const what of ['acknowledged', 'not found'])
      expect((await sandbox.inbox(friend)).filter(({ text }) => text === what)).toHaveLength(1);
  },
);

it('a page that does not say its version keeps its browser too', { timeout: 60_000 }, async () => {
  void open('september', { missing: ['Debug.VERSION'] }, { loadMs: 5_000 });
  expect(await broken()).toEqual({ version: null, contract: 'broken', missing: ['Debug.VERSION'] });
  expect(told).toEqual([]);
  await heal('september', 1);
  expect(told).toEqual(['ready']);
});

it('a page that lacks what only some calls need is used, and says what is missing', async () => {
  const missing = ['WAWebGroupInviteJob', 'WAWebFindChatAction'];
  await open('september', { missing }, { ignored: ['WAWebFindChatAction'] });
  await ready();
  expect(web).toEqual([
    {
      version: builds.at(-1)!.version,
      contract: 'ok',
      missing: ['WAWebFindChatAction', 'WAWebGroupInviteJob'],
    },
  ]);
});
