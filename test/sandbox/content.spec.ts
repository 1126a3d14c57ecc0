import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { OutgoingContent, OutgoingMediaType } from '../../src/whatsapp/outgoing-content.js';
import type {
  PageChange,
  PageMessage,
  PageSend,
  PageWindow,
} from '../../src/whatsapp/in-page/page-functions.js';
import { WhatsAppSession } from '../../src/whatsapp/whatsapp-session.js';
import { heicFiles } from '../support/heic-files.js';
import { files, sha256 } from './media-files.js';
import { chromiumPath, SandboxHarness, until } from './sandbox.harness.js';

/* Every type of message between whatsapp-web.js in a browser and the simulated phones, without Flotilla around it. */

declare const window: PageWindow & { sends: number; edits?: object[] };

let sandbox: SandboxHarness;
let session: WhatsAppSession;
let phone: string;
let friend: string;
const received: PageMessage[] = [];
const changes: PageChange[] = [];
const warnings: string[] = [];

beforeAll(async () => {
  sandbox = await SandboxHarness.start();
  session = new WhatsAppSession({
    accountId: 'sender',
    profileDir: join(sandbox.dir, 'session-sender'),
    chromiumPath,
    network: { kind: 'sandbox', host: '127.0.0.1', port: sandbox.server.port, spki: sandbox.server.spki },
    pairWithPhoneNumber: null,
    deadlines: { launchMs: 20_000, loadMs: 20_000, syncMs: 20_000 },
    canStart: () => true,
    onWarning: (message) => warnings.push(message),
  });
  let qr: string | null = null;
  let isReady = false;
  session.on('qr', (code) => (qr = code));
  session.on('ready', () => (isReady = true));
  session.on('message', (message) => received.push(message));
  session.on('change', (change) => changes.push(change));
  await session.start();
  phone = await sandbox.phone();
  await sandbox.call('POST', `/phones/${phone}/scan`, { qr: await until('the QR code', () => qr) });
  await until('ready', () => isReady);
  friend = await sandbox.phone();
}, 60_000);

afterEach(async () => {
  await sandbox.call('DELETE', '/faults');
});
afterAll(async () => {
  await session?.stop({ finishSendsMs: 0, closeMs: 0 });
  await sandbox?.stop();
}, 30_000);

let count = 0;
const idOf = (number: number) => `3EB0${String(number).padStart(18, '0')}`;

function send(content: OutgoingContent, options: Partial<PageSend> = {}) {
  count += 1;
  return session.send({
    chatId: `${friend}@c.us`,
    content,
    quoted: null,
    mentions: [],
    whatsappId: idOf(count),
    searchStorage: false,
    lookOnly: false,
    mayResend: true,
    timeoutMs: 10_000,
    typingMs: 0,
    checkNumber: false,
    ...options,
  });
}

/** What the friend's phone shows of the last message. */
async function arrived() {
  const found = (await sandbox.inbox(friend)).find(({ whatsappId }) => whatsappId === idOf(count));
  if (!found) throw new Error(`${idOf(count)} did not arrive`);
  return found;
}

async function file(name: string, bytes: Buffer, mimetype: string) {
  const path = join(sandbox.dir, `file-${count}`);
  await writeFile(path, bytes);
  return { path, mimetype, filename: name, size: bytes.length };
}

/** What the friend writes, as the session tells it. */
async function incoming(message: object): Promise<PageMessage> {
  const { status, body } = await sandbox.call<{ whatsappId: string }>('POST', `/phones/${friend}/messages`, {
    to: phone,
    ...message,
  });
  expect(status, JSON.stringify(body)).toBe(201);
  return until('the message', () => received.find(({ whatsappId }) => whatsappId === body.whatsappId));
}

describe('media that is sent', { timeout: 30_000 }, () => {
  const kinds: [OutgoingMediaType, Buffer, string, string | null][] = [
    ['image', files.png, 'image/png', 'a picture'],
    ['video', files.mp4, 'video/mp4', null],
    ['audio', files.mp3, 'audio/mpeg', null],
    ['voice', files.ogg, 'audio/ogg; codecs=opus', null],
    ['document', files.pdf, 'application/pdf', 'the invoice'],
    ['sticker', files.webp, 'image/webp', null],
  ];
  it.each(kinds)('arrives as %s with unchanged bytes', async (type, bytes, mimetype, caption) => {
    const result = await send({ type, caption, file: await file('invoice.pdf', bytes, mimetype) });
    expect(result).toMatchObject({ outcome: 'known', whatsappId: idOf(count) });
    const entry = await arrived();
    expect(entry).toMatchObject({
      type,
      text: caption ?? '',
      media: { mimetype, size: bytes.length, sha256: sha256(bytes) },
    });
    if (type === 'document') expect(entry.media?.filename).toBe('invoice.pdf');
    const answer = await fetch(`${sandbox.controlUrl}/phones/${friend}/messages/${idOf(count)}/media`);
    expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true);
  });

  it('makes a sticker of a picture', async () => {
    await send({ type: 'sticker', caption: null, file: await file('x.png', files.png, 'image/png') });
    expect((await arrived()).media?.mimetype).toBe('image/webp');
  });

  it('that the page cannot read is not sent, and the page says why', async () => {
    // Its beginning is a picture's, and no more of it.
    const cut = await file('x.png', files.png.subarray(0, 40), 'image/png');
    const heic = await file('x.heic', heicFiles.plain, 'image/heic');
    for (const [type, unread] of [
      ['sticker', cut],
      ['image', cut],
      ['image', heic],
    ] as const) {
      const result = await send({ type, caption: null, file: unread });
      expect(result).toEqual({ outcome: 'not_sent', detail: expect.stringMatching(/\w+/) });
      await expect(arrived()).rejects.toThrow('did not arrive');
    }
  });

  it('is not sent when its upload fails, and is sent once when it is tried again', async () => {
    await sandbox.call('PUT', '/faults', { uploadFailRate: 1 });
    const content = {
      type: 'image',
      caption: null,
      file: await file('x.png', files.png, 'image/png'),
    } as const;
    expect(await send(content)).toEqual({ outcome: 'not_sent', detail: expect.stringContaining('503') });
    await sandbox.call('DELETE', '/faults');
    expect(await send(content, { whatsappId: idOf(count), searchStorage: true })).toMatchObject({
      outcome: 'known',
    });
    count -= 1;
    const lines = (await sandbox.ledger()).filter(({ whatsappId }) => whatsappId === idOf(count));
    expect(lines).toMatchObject([{ duplicate: false }]);
  });

  it('that is still at its upload when it is asked for again is sent once', async () => {
    await sandbox.call('PUT', '/faults', { uploadDelayMs: 1_500 });
    const content = {
      type: 'image',
      caption: null,
      file: await file('x.png', files.png, 'image/png'),
    } as const;
    await session['page'].evaluate(() => {
      const { sendMessage } = window.WWebJS;
      window.sends = 0;
      window.WWebJS.sendMessage = (...given) => {
        window.sends += 1;
        return sendMessage(...given);
      };
    });
    expect(await send(content, { timeoutMs: 500 })).toEqual({ outcome: 'timed_out' });
    const again = { whatsappId: idOf(count), searchStorage: true };
    expect(await send(content, again)).toMatchObject({ outcome: 'known' });
    expect(await session['page'].evaluate(() => window.sends)).toBe(1);
    count -= 1;
    const lines = (await sandbox.ledger()).filter(({ whatsappId }) => whatsappId === idOf(count));
    expect(lines).toMatchObject([{ duplicate: false }]);
  });

  it('has a caption that can be edited', async () => {
    await send({ type: 'image', caption: 'befor', file: await file('x.png', files.png, 'image/png') });
    const target = { chatId: `${friend}@c.us`, whatsappId: idOf(count), fromMe: true, author: null };
    expect(await session.act(target, { kind: 'edit', text: 'before' })).toMatchObject({ outcome: 'done' });
    expect(await arrived()).toMatchObject({ text: 'before', edited: true });
    await until('the event', () =>
      changes.find((change) => change.kind === 'edited' && change.whatsappId === idOf(count)),
    );
    expect(await session.act(target, { kind: 'react', emoji: '👍' })).toMatchObject({ outcome: 'done' });
    expect(await session.act(target, { kind: 'revoke' })).toMatchObject({ outcome: 'done' });
  });
});

describe('a link in an edited text', { timeout: 30_000 }, () => {
  it('has a preview, unless its message has none', async () => {
    await send({ type: 'text', text: 'no link yet' });
    const target = { chatId: `${friend}@c.us`, whatsappId: idOf(count), fromMe: true, author: null };
    await session['page'].evaluate(() => {
      const { editMessage } = window.WWebJS;
      window.edits = [];
      window.WWebJS.editMessage = (message, text, options) => {
        window.edits!.push(options);
        return editMessage(message, text, options);
      };
    });
    for (const [text, linkPreview] of [
      ['https://example.com/1', undefined],
      ['https://example.com/2', true],
      ['https://example.com/3', false],
    ] as const)
      expect(await session.act(target, { kind: 'edit', text, linkPreview })).toMatchObject({
        outcome: 'done',
      });
    expect(await session['page'].evaluate(() => window.edits)).toEqual([
      expect.objectContaining({ matchedText: 'https://example.com/1' }),
      expect.objectContaining({ matchedText: 'https://example.com/2' }),
      { mentionedJidList: [] },
    ]);
  });
});

describe('a reaction of ours', { timeout: 30_000 }, () => {
  it('is done at the time at which the page tells of it, and each later than the one before, whatever the clock shows', async () => {
    const page = session['page'];
    await send({ type: 'text', text: 'react' });
    const target = { chatId: `${friend}@c.us`, whatsappId: idOf(count), fromMe: true, author: null };
    const done: number[] = [];
    // As after a clock has been set back: what WhatsApp has is later than now.
    await page.evaluate('window.realNow = Date.now; Date.now = () => window.realNow() - 60_000');
    try {
      for (const emoji of ['👍', '🎉', '']) {
        const result = await session.act(target, { kind: 'react', emoji });
        done.push(result.outcome === 'done' ? result.at : 0);
      }
    } finally {
      await page.evaluate('Date.now = window.realNow');
    }
    const told = await until('what the page tells', () => {
      const ours = changes.filter(
        ({ kind, whatsappId }) => kind === 'reaction' && whatsappId === idOf(count),
      );
      return ours.length === 3 && ours;
    });
    expect(told.slice(0, 2).map(({ at }) => at)).toEqual(done.slice(0, 2));
    expect(done).toEqual([...done].sort((one, other) => one - other));
    expect(new Set(done).size).toBe(3);
  });
});

describe('what is no media', { timeout: 30_000 }, () => {
  it('arrives as location, contact and poll', async () => {
    await send({ type: 'location', latitude: -6.1754, longitude: 106.8272, description: 'Monas\nJakarta' });
    expect(await arrived()).toMatchObject({
      type: 'location',
      location: { latitude: -6.1754, longitude: 106.8272, description: 'Monas\nJakarta' },
    });
    const card = { name: 'Siti', vcard: 'BEGIN:VCARD\nFN:Siti\nEND:VCARD' };
    await send({ type: 'contact', cards: [card] });
    expect(await arrived()).toMatchObject({ type: 'contact', contacts: [card] });
    await send({ type: 'contact', cards: [card, { ...card, name: 'Budi' }] });
    expect(await arrived()).toMatchObject({ type: 'contact', contacts: [card, { name: 'Budi' }] });
    const poll = { question: 'When?', options: ['Morning', 'Evening'], multiple: false };
    await send({ type: 'poll', ...poll, secret: Array.from({ length: 32 }, () => 1) });
    expect(await arrived()).toMatchObject({ type: 'poll', poll });
  });

  it('answers and mentions', async () => {
    const theirs = await incoming({ text: 'a question' });
    const quoted = { chatId: `${friend}@c.us`, whatsappId: theirs.whatsappId, fromMe: false, author: null };
    await send({ type: 'text', text: `yes @${phone}` }, { quoted, mentions: [`${phone}@c.us`] });
    expect(await arrived()).toMatchObject({
      text: `yes @${phone}`,
      replyTo: theirs.whatsappId,
      mentions: [phone],
    });
    const gone = { ...quoted, whatsappId: 'NOSUCHID' };
    expect(await send({ type: 'text', text: 'yes' }, { quoted: gone })).toEqual({ outcome: 'no_quoted' });
  });

  it('tells votes, and has them to be read again', async () => {
    const since = Date.now();
    const poll = { question: 'Which?', options: ['A', 'B', 'C'], multiple: true };
    await send({ type: 'poll', ...poll, secret: Array.from({ length: 32 }, () => 1) });
    const vote = (options: string[]) =>
      sandbox.call('POST', `/phones/${friend}/messages/${idOf(count)}/vote`, { options });
    expect((await vote(['D'])).status).toBe(409);
    expect((await vote(['C', 'A'])).status).toBe(200);
    const told = await until('the vote', () => changes.find(({ kind }) => kind === 'vote'));
    expect(told).toMatchObject({
      whatsappId: idOf(count),
      from: { chatId: `${friend}@c.us`, alias: expect.stringMatching(/@lid$/) },
      options: ['C', 'A'],
    });
    expect(await session.messages.recentChanges(since, 100)).toContainEqual(told);
  });
});

describe('what is received', { timeout: 30_000 }, () => {
  it('has its media, which can be downloaded', async () => {
    const media = {
      data: files.pdf.toString('base64'),
      mimetype: 'application/pdf',
      filename: 'invoice.pdf',
    };
    const message = await incoming({ type: 'document', text: 'here', media });
    expect(message).toMatchObject({
      type: 'document',
      text: 'here',
      media: { mimetype: 'application/pdf', size: files.pdf.length, filename: 'invoice.pdf' },
    });
    const target = { chatId: message.chatId, whatsappId: message.whatsappId, fromMe: false, author: null };
    const path = join(sandbox.dir, 'downloaded');
    expect(await session.messages.downloadMedia(target, path, 10, 5_000)).toMatchObject({
      outcome: 'too_large',
    });
    await sandbox.call('PUT', '/faults', { downloadFailRate: 1 });
    expect(await session.messages.downloadMedia(target, path, 10_000, 5_000)).toMatchObject({
      outcome: 'failed',
    });
    await sandbox.call('DELETE', '/faults');
    expect(await session.messages.downloadMedia(target, path, 10_000, 5_000)).toMatchObject({
      outcome: 'fetched',
    });
    expect((await readFile(path)).equals(files.pdf)).toBe(true);
    const place = `/phones/${friend}/messages/${message.whatsappId}/media`;
    await sandbox.call('DELETE', place);
    expect(await sandbox.call('GET', place)).toMatchObject({ status: 404 });
    expect(await session.messages.downloadMedia(target, path, 10_000, 5_000)).toMatchObject({
      outcome: 'gone',
    });
  });

  it('has its place, its cards, its poll, whom it mentions and what it answers', async () => {
    await send({ type: 'text', text: 'a question' });
    const replyTo = idOf(count);
    expect(await incoming({ text: `@${phone} yes`, replyTo, mentions: [phone] })).toMatchObject({
      type: 'chat',
      quoted: replyTo,
      mentions: [`${phone}@c.us`],
    });
    const location = { latitude: 1.5, longitude: 2.5, description: 'Home' };
    expect(await incoming({ type: 'location', location })).toMatchObject({ text: '', location });
    const contacts = [{ name: 'Siti', vcard: 'BEGIN:VCARD\nFN:Siti\nEND:VCARD' }];
    expect(await incoming({ type: 'contact', contacts })).toMatchObject({
      text: '',
      vcards: [contacts[0]!.vcard],
    });
    const poll = { question: 'When?', options: ['A', 'B'], multiple: true };
    expect(await incoming({ type: 'poll', poll })).toMatchObject({ type: 'poll_creation', poll });
    expect(await session.messages.recentMessages(100)).toEqual(received);
  });

  it('is missed when a reaction was taken back', async () => {
    await send({ type: 'text', text: 'react' });
    const target = { chatId: `${friend}@c.us`, whatsappId: idOf(count), fromMe: true, author: null };
    const react = (emoji: string) =>
      sandbox.call('POST', `/phones/${friend}/messages/${idOf(count)}/reaction`, { emoji });
    const standing = async () =>
      (await session.messages.reactionsTo([target]))[0]?.from.map((who) => who?.chatId);
    await react('👍');
    await until('the reaction', async () => (await standing())?.includes(`${friend}@c.us`));
    await react('');
    await until('no reaction', async () => (await standing())?.length === 0);
  });
});
