import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { PageChat, PageModel, PageSend, PageWindow } from '../../src/whatsapp/in-page/page-functions.js';
import type { PageModules } from '../../src/whatsapp/in-page/page-modules.js';
import { connectionState, reconnectSocket } from '../../src/whatsapp/in-page/page-state.js';
import { WhatsAppSession } from '../../src/whatsapp/whatsapp-session.js';
import { files } from './media-files.js';
import { chromiumPath, SandboxHarness, until } from './sandbox.harness.js';

/*
 * A message that waits for its ack when its page ends, on the newest build: what the page does with it, and that a session sends
 * it once. The judge is the sandbox's ledger, which has a line for each copy of a message that left.
 */

interface Changeable<Model> {
  add(model: Model): void;
  remove(model: Model): void;
}

/** What only these tests use of the page. */
type TestModules = PageModules & {
  WAWebCollections: {
    Msg: Changeable<PageModel> & { modelClass: { prototype: Partial<PageModel> } };
    Chat: Changeable<PageChat>;
  };
  WAWebDBProcessMessage: { DuplicateMessageError: new () => Error };
};
declare const window: Omit<PageWindow, 'require'> & {
  require: <Name extends keyof TestModules>(name: Name) => TestModules[Name];
  /** How often the page was told to send a message again. */
  resends: number;
};

let sandbox: SandboxHarness;
let session: WhatsAppSession;
let phone: string;
let friend: string;

const media = { type: 'image', caption: 'a picture' } as const;

beforeAll(async () => {
  sandbox = await SandboxHarness.start();
  await sandbox.call('PUT', '/build', { version: 'september' });
  session = open();
  let qr: string | null = null;
  session.on('qr', (code) => (qr = code));
  await session.start();
  [phone, friend] = [await sandbox.phone(), await sandbox.phone()];
  await sandbox.call('POST', `/phones/${phone}/scan`, { qr: await until('the QR code', () => qr) });
  await until('ready', () => session.ready);
  // The page learns that the number is registered, so that a message needs no answer of the server before it leaves.
  expect(await send(newId())).toMatchObject({ outcome: 'known' });
}, 60_000);

afterAll(async () => {
  await session?.stop({ finishSendsMs: 0, closeMs: 0 });
  await sandbox?.stop();
}, 30_000);

afterEach(() => sandbox.call('DELETE', '/faults'));

function open(): WhatsAppSession {
  return new WhatsAppSession({
    accountId: 'sender',
    profileDir: join(sandbox.dir, 'session-sender'),
    chromiumPath,
    network: { kind: 'sandbox', host: '127.0.0.1', port: sandbox.server.port, spki: sandbox.server.spki },
    pairWithPhoneNumber: null,
    deadlines: { launchMs: 20_000, loadMs: 20_000, syncMs: 20_000 },
    canStart: () => true,
    onWarning: () => undefined,
  });
}

const newId = () => `3EB0${randomBytes(9).toString('hex').toUpperCase()}`;
const faults = (settings: object) => sandbox.call('PUT', '/faults', { phone, ...settings });

async function send(whatsappId: string, options: Partial<PageSend> & { isPicture?: boolean } = {}) {
  const { isPicture, ...more } = options;
  const path = join(sandbox.dir, `${whatsappId}.png`);
  if (isPicture) await writeFile(path, files.png);
  const file = { path, mimetype: 'image/png', filename: 'a.png', size: files.png.length };
  return session.send({
    chatId: `${friend}@c.us`,
    content: isPicture ? { ...media, file } : { type: 'text', text: whatsappId },
    quoted: null,
    mentions: [],
    whatsappId,
    searchStorage: true,
    lookOnly: false,
    mayResend: true,
    timeoutMs: 5_000,
    typingMs: 0,
    checkNumber: false,
    ...more,
  });
}

/** What the page shows of a message. */
const shown = (whatsappId: string) =>
  session['page'].evaluate(
    async (chatId, whatsappId) => {
      const chat = (await window.WWebJS.getChat(chatId, { getAsModel: false }))!;
      const message = await window.flotilla!.findOwn(chat, whatsappId, true);
      return message && { ack: message.ack, isSendFailure: message.isSendFailure };
    },
    `${friend}@c.us`,
    whatsappId,
  );

/** How often each copy of a message left, and whether its recipient took it for a repetition. */
const lines = async (whatsappId: string) =>
  (await sandbox.ledger())
    .filter((line) => line.whatsappId === whatsappId)
    .map(({ duplicate }) => (duplicate ? 'again' : 'new'));

/** Ends the browser as a crash does, and starts the next one on the same profile. */
async function restart(): Promise<void> {
  await session.stop({ finishSendsMs: 0, closeMs: 0 });
  session = open();
  await session.start();
  await until('ready', () => session.ready);
}

/** Leaves a message without an ack on the disk of the page, and restarts the browser. */
async function leave(
  options: { isPicture?: boolean; isAccepted?: boolean; whileAway?: object } = {},
): Promise<string> {
  const { isPicture = false, isAccepted = false, whileAway = {} } = options;
  const whatsappId = newId();
  // Nothing comes back: neither the ack nor a receipt.
  await faults(isAccepted ? { dropAckRate: 1 } : { silent: true });
  expect(await send(whatsappId, { isPicture, timeoutMs: 500 })).toEqual({ outcome: 'pending' });
  expect(await lines(whatsappId)).toEqual(isAccepted ? ['new'] : []);
  await faults(whileAway);
  await restart();
  return whatsappId;
}

describe('a page that starts again', { timeout: 60_000 }, () => {
  it.each([
    { isPicture: false, isAccepted: false },
    { isPicture: false, isAccepted: true },
    { isPicture: true, isAccepted: false },
    { isPicture: true, isAccepted: true },
  ])(
    'marks what has no ack as failed, and a session sends it once: %o',
    async ({ isPicture, isAccepted }) => {
      const whatsappId = await leave({ isPicture, isAccepted });
      expect(await shown(whatsappId)).toEqual({ ack: 0, isSendFailure: true });
      const looked = await send(whatsappId, { lookOnly: true, mayResend: false });
      expect(looked).toEqual({ outcome: 'unsent' });
      expect(await lines(whatsappId)).toEqual(isAccepted ? ['new'] : []);
      // The first look needs no file: the page uploaded it before it added the message.
      const sent = send(whatsappId, { lookOnly: true, isPicture });
      expect(await sent).toMatchObject({ outcome: 'known', whatsappId });
      expect(await lines(whatsappId)).toEqual(isAccepted ? ['new', 'again'] : ['new']);
      expect(await shown(whatsappId)).toMatchObject({ isSendFailure: false });
      expect(await send(whatsappId)).toMatchObject({ outcome: 'known' });
      expect(await lines(whatsappId)).toHaveLength(isAccepted ? 2 : 1);
      const inbox = (await sandbox.inbox(friend)).filter((entry) => entry.whatsappId === whatsappId);
      expect(inbox).toMatchObject([isPicture ? { type: 'image', text: media.caption } : { type: 'text' }]);
    },
  );

  it.each([{ isPicture: false }, { isPicture: true }])(
    'and sends by itself what it left is not hurried: %o',
    async ({ isPicture }) => {
      // The ack comes after the session was ready, and before half of its patience is over.
      const whatsappId = await leave({ isPicture, whileAway: { resumesSends: true, ackDelayMs: 3_000 } });
      expect(await send(whatsappId, { isPicture, timeoutMs: 10_000 })).toMatchObject({ outcome: 'known' });
      expect(await lines(whatsappId)).toEqual(['new']);
    },
  );

  it('learns from a receipt that the message arrived, and does not send it again', async () => {
    const whatsappId = newId();
    await faults({ ackDelayMs: 1_500 });
    expect(await send(whatsappId, { timeoutMs: 200 })).toEqual({ outcome: 'pending' });
    await faults({});
    await restart();
    expect(await send(whatsappId)).toMatchObject({ outcome: 'known' });
    expect(await lines(whatsappId)).toEqual(['new']);
  });
});

describe('a page', { timeout: 60_000 }, () => {
  it.each(['WAWebResendMsgAction', 'msg.resend', 'WAWebSendMsgChatAction'])(
    'sends a failed text again by %s alone',
    async (only) => {
      const whatsappId = await leave();
      await session['page'].evaluate((only) => {
        const real = window.require.bind(window);
        const chatAction = { ...real('WAWebSendMsgChatAction') };
        delete chatAction.resendMsgToChat;
        window.require = ((name: never) => {
          if (name === 'WAWebResendMsgAction' && only !== name) throw new Error('no such module');
          return name === 'WAWebSendMsgChatAction' && only !== name ? chatAction : real(name);
        }) as typeof window.require;
        const model = real('WAWebCollections').Msg.getModelsArray()[0]!;
        if (only !== 'msg.resend') delete Object.getPrototypeOf(model).resend;
      }, only);
      expect(await send(whatsappId)).toMatchObject({ outcome: 'known' });
      expect(await lines(whatsappId)).toEqual(['new']);
      await restart();
    },
  );

  it('uploads media again when its red mark is clicked; without the file it sends nothing, and a session still does', async () => {
    const click = (whatsappId: string) =>
      session['page'].evaluate(async (whatsappId) => {
        const models = window.require('WAWebCollections').Msg.getModelsArray();
        const message = models.find(({ id }) => id.id === whatsappId)!;
        const before = message.directPath;
        const result = await window.require('WAWebResendMsgAction').resendMsg(message);
        return { result, isUploadedAgain: message.directPath !== before };
      }, whatsappId);
    const living = newId();
    await faults({ sendFailRate: 1, dropAckRate: 1 });
    expect(await send(living, { isPicture: true })).toEqual({ outcome: 'unsent' });
    await faults({});
    expect(await click(living)).toEqual({ result: 'OK', isUploadedAgain: true });
    expect(await shown(living)).toMatchObject({ isSendFailure: false });
    expect(await click(living)).toEqual({ result: undefined, isUploadedAgain: false });

    const left = await leave({ isPicture: true });
    expect(await click(left)).toEqual({ result: undefined, isUploadedAgain: false });
    expect(await shown(left)).toEqual({ ack: 0, isSendFailure: false });
    expect(await lines(left)).toEqual([]);
    // Nobody sends it now, and no mark tells.
    expect(await send(left, { lookOnly: true, timeoutMs: 2_000 })).toMatchObject({ outcome: 'known' });
    expect(await lines(left)).toEqual(['new']);
  });

  it('gives a send up without an ack: the next try sends it again, and no try sends two copies', async () => {
    const whatsappId = newId();
    await session['page'].evaluate(() => {
      const action = window.require('WAWebResendMsgAction');
      const { resendMsg } = action;
      Object.assign(window, { resends: 0 });
      action.resendMsg = (message) => {
        window.resends += 1;
        return resendMsg(message);
      };
    });
    const resends = () => session['page'].evaluate(() => window.resends);
    await faults({ sendFailRate: 1, dropAckRate: 1 });
    expect(await send(whatsappId)).toEqual({ outcome: 'unsent' });
    expect(await shown(whatsappId)).toEqual({ ack: 0, isSendFailure: true });
    expect(await resends()).toBe(0);
    expect(await send(whatsappId)).toEqual({ outcome: 'unsent' });
    expect(await resends()).toBe(1);
    const before = (await lines(whatsappId)).length;
    await faults({});
    expect(await send(whatsappId)).toMatchObject({ outcome: 'known' });
    expect(await lines(whatsappId)).toHaveLength(before + 1);
    expect((await lines(whatsappId)).filter((line) => line === 'new')).toHaveLength(1);
  });

  it('has ack -1 of a refused message, which no try sends again', async () => {
    const whatsappId = newId();
    await faults({ refuseRate: 1 });
    expect(await send(whatsappId)).toMatchObject({ outcome: 'known', ack: -1 });
    await faults({});
    expect(await shown(whatsappId)).toEqual({ ack: -1, isSendFailure: true });
    expect(await send(whatsappId)).toMatchObject({ outcome: 'known', ack: -1 });
    await restart();
    expect(await send(whatsappId)).toMatchObject({ outcome: 'known', ack: -1 });
    expect(await lines(whatsappId)).toEqual([]);
  });

  it('that lives sends again over a new connection what the old one lost', async () => {
    const whatsappId = newId();
    await faults({ silent: true });
    const sending = send(whatsappId, { timeoutMs: 10_000 });
    await until('the message is on its way', async () => (await shown(whatsappId))?.ack === 0);
    await faults({});
    await session['page'].evaluate(reconnectSocket);
    expect(await sending).toMatchObject({ outcome: 'known' });
    expect(await lines(whatsappId)).toEqual(['new']);
  });

  it('refuses a second message under a key of its database, and the session tells the ack of the first', async () => {
    const whatsappId = newId();
    expect(await send(whatsappId)).toMatchObject({ outcome: 'known' });
    await until('read', async () => (await shown(whatsappId))?.ack === 3);
    await forget(whatsappId);
    const refused = await session['page'].evaluate(
      async (chatId, whatsappId) => {
        const chat = (await window.WWebJS.getChat(chatId, { getAsModel: false }))!;
        const message = {
          id: window.flotilla!.keyOf(chat, whatsappId),
          ack: 0,
          t: 1,
          type: 'chat',
          body: 'x',
        };
        const steps = window.require('WAWebSendMsgChatAction').addAndSendMsgToChat(chat, message as never);
        const ends = await Promise.allSettled(steps as Promise<unknown>[]);
        const { DuplicateMessageError } = window.require('WAWebDBProcessMessage');
        return ends.map((end) => end.status === 'rejected' && end.reason instanceof DuplicateMessageError);
      },
      `${friend}@c.us`,
      whatsappId,
    );
    expect(refused).toEqual([true, true]);
    // What the page holds in memory now is wrong: ack 0.
    await forget(whatsappId);
    const first = await send(whatsappId, { searchStorage: false });
    expect(first).toMatchObject({ outcome: 'known', ack: 3 });
    expect(await lines(whatsappId)).toEqual(['new']);
  });

  it('finds a message whose chat has another id of the person now', async () => {
    const whatsappId = await leave();
    await session['page'].evaluate((chatId) => {
      const { Chat } = window.require('WAWebCollections');
      const lid = window
        .require('WAWebApiContact')
        .getCurrentLid(window.require('WAWebWidFactory').createWid(chatId))!;
      const chat = Chat.get(chatId)!;
      Chat.remove(chat);
      Chat.add(Object.assign(chat, { id: lid }));
    }, `${friend}@c.us`);
    // Only the page's database has the message, under the key of the other id.
    await forget(whatsappId);
    const looked = await send(whatsappId, { lookOnly: true, mayResend: false });
    expect(looked).toEqual({ outcome: 'unsent' });
    await forget(whatsappId);
    // A chat that WhatsApp does not give costs the others nothing.
    const asked = ['628129999999999', friend].map((number) => ({ chatId: `${number}@c.us`, whatsappId }));
    expect(await session.messages.acksOf(asked)).toEqual([{ whatsappId, ack: 0 }]);
    await forget(whatsappId);
    expect(await send(whatsappId)).toMatchObject({ outcome: 'known' });
    expect(await lines(whatsappId)).toEqual(['new']);
    await restart();
  });

  it('is not asked for the message without a key: a group has no second id, and nobody sent the message', async () => {
    const ask = { owner: friend, subject: 'Ours', participants: [phone] };
    const { body: group } = await sandbox.call<{ id: string }>('POST', '/groups', ask);
    await until('the group', async () => (await session.chats(5_000).find(group.id)) !== null);
    expect(await send(newId(), { chatId: group.id, lookOnly: true })).toEqual({ outcome: 'absent' });
  });

  it('waits for what came while it was away before it sends a message again', async () => {
    const whatsappId = await leave();
    const connection = async () => (await session['page'].evaluate(connectionState)).state;
    await faults({ offline: true });
    await until('the connection is lost', async () => (await connection()) !== 'CONNECTED');
    // It is not given up either: a receipt may be on its way.
    const looked = await send(whatsappId, { lookOnly: true, mayResend: false, timeoutMs: 500 });
    expect(looked).toEqual({ outcome: 'pending' });
    await faults({});
    await until('the connection is back', async () => (await connection()) === 'CONNECTED');
    await session['page'].evaluate(() => {
      const handler = window.require('WAWebOfflineHandler').OfflineMessageHandler;
      Object.assign(handler, { isResumeComplete: () => false });
    });
    expect(await send(whatsappId, { timeoutMs: 500 })).toEqual({ outcome: 'pending' });
    expect(await lines(whatsappId)).toEqual([]);
    await restart();
    expect(await connection()).toBe('CONNECTED');
    expect(await send(whatsappId)).toMatchObject({ outcome: 'known' });
    expect(await lines(whatsappId)).toEqual(['new']);
  });
});

/** Makes the page forget a message that its disk has, as it forgets old ones. */
async function forget(whatsappId: string): Promise<void> {
  await session['page'].evaluate((whatsappId) => {
    const { Msg } = window.require('WAWebCollections');
    for (const model of Msg.getModelsArray().filter((other: PageModel) => other.id.id === whatsappId))
      Msg.remove(model);
  }, whatsappId);
}
