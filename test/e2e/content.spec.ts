import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { files, sha256 } from '../sandbox/media-files.js';
import { heicFiles } from '../support/heic-files.js';
import { eventually } from '../support/eventually.js';
import { type Answer, Flotilla, type Workspace } from '../support/flotilla.js';

/* Every type of message through HTTP, with real browsers: out and in, judged by what the phones have. */

let flotilla: Flotilla;
let workspace: Workspace;
let account: { id: string; phoneNumber: string; instanceId: string };
let phone: string;

beforeAll(async () => {
  flotilla = await Flotilla.start({ instances: 1, env: { ALLOW_PRIVATE_ADDRESSES: '127.0.0.1/32' } });
  workspace = await flotilla.newWorkspace();
  [account] = (await workspace.linkedAccounts(1)) as [typeof account];
  phone = await flotilla.newPhone();
});
afterEach(() => flotilla.sandbox('DELETE', '/faults'));
afterAll(() => flotilla?.stop());

type Message = Answer['body'];

const base64 = (bytes: Buffer) => bytes.toString('base64');

function until(id: string, isSo: (message: Message) => boolean, timeoutMs?: number): Promise<Message> {
  return eventually(
    String(isSo),
    async () => {
      const { body } = await workspace.call('GET', `/messages/${id}`);
      return isSo(body) ? body : Promise.reject(new Error(JSON.stringify(body)));
    },
    timeoutMs,
  );
}

/** Sends, and waits until it has been read. */
async function sent(message: object): Promise<Message> {
  const { status, body } = await workspace.send({ accountId: account.id, to: phone, ...message });
  expect(status, JSON.stringify(body)).toBe(202);
  return until(body.id, ({ status }) => status === 'read');
}

/** How many files WhatsApp's server has. */
const uploaded = () => readdirSync(join(flotilla.stack.varDir, 'sandbox', 'media')).length;

/** What the recipient's phone has of a message. */
async function arrived({ whatsappId }: Message): Promise<Message> {
  const { items } = await flotilla.sandbox('GET', `/phones/${phone}/inbox`);
  return items.find((item: Message) => item.whatsappId === whatsappId);
}

async function bytesAt({ whatsappId }: Message): Promise<Buffer> {
  const url = `${flotilla.stack.urls.sandbox}/phones/${phone}/messages/${whatsappId}/media`;
  return Buffer.from(await (await fetch(url)).arrayBuffer());
}

/** What the phone's owner writes, as `message.received` tells it. */
async function incoming(message: object, from = phone): Promise<Message> {
  const line = await flotilla.sandbox('POST', `/phones/${from}/messages`, {
    to: account.phoneNumber,
    ...message,
  });
  return received(line.whatsappId);
}

async function received(whatsappId: string): Promise<Message> {
  const found = await eventually('stored', async () => {
    const { body } = await workspace.call('GET', '/messages?direction=incoming&limit=200');
    return body.items.find((item: Message) => item.whatsappId === whatsappId);
  });
  const [event] = await events('message.received', found.id, 1);
  return event!.data;
}

/** Events of a message from the first on; waits until there are at least `count`. */
function events(types: string, id: string, count: number): Promise<{ type: string; data: Message }[]> {
  return workspace.events([types], count, (data) => data.id === id);
}

async function download(mediaId: string): Promise<Buffer> {
  const response = await fetch(`${flotilla.stack.urls.api}/api/v1/media/${mediaId}`, {
    headers: { authorization: `Bearer ${workspace.key}` },
  });
  expect(response.status).toBe(200);
  return Buffer.from(await response.arrayBuffer());
}

describe('media', () => {
  const kinds: [string, Buffer, string, string?][] = [
    ['image', files.png, 'image/png', 'Your parcel'],
    ['video', files.mp4, 'video/mp4', 'How to open it'],
    ['audio', files.mp3, 'audio/mpeg'],
    ['voice', files.ogg, 'audio/ogg; codecs=opus'],
    ['document', files.pdf, 'application/pdf', 'Your invoice'],
    ['sticker', files.webp, 'image/webp'],
  ];

  it.each(kinds)('goes out as %s, byte for byte', async (type, bytes, mimetype, caption) => {
    const message = await sent({
      type,
      media: { data: base64(bytes), mimetype, filename: 'file.bin', caption },
    });
    expect(message).toMatchObject({
      type,
      text: caption ?? null,
      media: { mediaId: expect.any(String), size: bytes.length, sha256: sha256(bytes), error: null },
      location: null,
      contact: null,
      poll: null,
    });
    expect(await arrived(message)).toMatchObject({
      type,
      text: caption ?? '',
      media: { size: bytes.length, sha256: sha256(bytes) },
    });
    expect((await bytesAt(message)).equals(bytes)).toBe(true);
    expect((await download(message.media.mediaId)).equals(bytes)).toBe(true);
  });

  it.each(kinds)(
    'comes in as %s, byte for byte, and is published when it is there',
    async (type, bytes, mimetype, text) => {
      const message = await incoming({
        type,
        text,
        media: { data: base64(bytes), mimetype, filename: 'theirs.bin' },
      });
      expect(message).toMatchObject({
        type,
        direction: 'incoming',
        status: 'received',
        text: text ?? null,
        from: phone,
        participant: { phone, lid: expect.stringMatching(/@lid$/) },
        media: { size: bytes.length, sha256: sha256(bytes), filename: 'theirs.bin', error: null },
      });
      expect((await download(message.media.mediaId)).equals(bytes)).toBe(true);
    },
  );

  it('by URL arrives as a browser would have it', async () => {
    const csv = Buffer.from('Größe;Preis\n', 'latin1');
    const answers: Record<string, RequestListener> = {
      '/old': (_request, response) => response.writeHead(301, { location: '/get.php?id=7' }).end('moved'),
      '/get.php?id=7': (request, response) => {
        if (!request.headers['user-agent']) return void response.writeHead(403).end();
        response.setHeader('content-encoding', 'gzip').setHeader('content-type', 'text/csv');
        response.setHeader('content-disposition', "attachment; filename*=UTF-8''Preise%20f%C3%BCr%20Sie.csv");
        response.end(gzipSync(csv));
      },
      '/invoice.php': (_request, response) => response.end(files.pdf),
      '/my%20photo': (_request, response) => response.end(files.png),
    };
    const server = createServer((request, response) => answers[request.url!]!(request, response));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    try {
      for (const [path, type, bytes, mimetype, filename] of [
        ['/old', 'document', csv, 'text/csv', 'Preise für Sie.csv'],
        ['/invoice.php', 'document', files.pdf, 'application/pdf', 'invoice.pdf'],
        ['/my photo', 'image', files.png, 'image/png', 'my photo.png'],
      ] as const) {
        const message = await sent({ type, media: { url: url + path } });
        expect(message.media).toMatchObject({ mimetype, filename, sha256: sha256(bytes) });
        const { media } = await arrived(message);
        expect(media).toMatchObject({ mimetype, sha256: sha256(bytes) });
        if (type === 'document') expect(media.filename).toBe(filename);
      }
    } finally {
      server.close();
    }
  });

  it.each([
    ['libmp3lame', 'mp3', 'audio/mpeg'],
    ['aac', 'm4a', 'audio/x-m4a'],
    ['pcm_s16le', 'wav', 'audio/wav'],
  ])('of sound becomes a voice message that every phone plays: %s', async (codec, extension, from) => {
    const path = join(flotilla.stack.varDir, `voice.${extension}`);
    execFileSync('ffmpeg', [
      ...['-nostdin', '-loglevel', 'error', '-f', 'lavfi', '-i', 'sine=440:duration=1', '-c:a', codec, path],
    ]);
    const message = await sent({
      type: 'voice',
      media: { data: base64(readFileSync(path)), filename: `hello.${extension}` },
    });
    expect(message.media).toMatchObject({
      mimetype: 'audio/ogg; codecs=opus',
      filename: 'hello.ogg',
      converted: { from },
    });
    expect(await arrived(message)).toMatchObject({
      type: 'voice',
      media: { mimetype: 'audio/ogg; codecs=opus' },
    });
    const bytes = await bytesAt(message);
    expect([bytes.subarray(0, 4).toString(), bytes.includes('OpusHead')]).toEqual(['OggS', true]);
  });

  /** Sends files: the first one within its message, the second one from a URL, the third one as an upload. */
  async function eachWay(
    files: Buffer[],
    send: (media: object, index: number) => Promise<void>,
  ): Promise<void> {
    await send({ data: base64(files[0]!), filename: 'mine' }, 0);
    const server = createServer((_request, response) => response.end(files[1]));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    try {
      await send({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mine` }, 1);
    } finally {
      server.close();
    }
    const form = new FormData();
    form.append('file', new Blob([new Uint8Array(files[2]!)]), 'mine');
    const answer = await fetch(`${flotilla.stack.urls.api}/api/v1/media`, {
      method: 'POST',
      headers: { authorization: `Bearer ${workspace.key}` },
      body: form,
    });
    await send({ mediaId: ((await answer.json()) as { mediaId: string }).mediaId }, 2);
  }
  const picture = (background = 'red') =>
    sharp({ create: { width: 64, height: 32, channels: 3, background } });
  const gif = async () => {
    const frames = ['red', 'white', 'red'].map((colour) => picture(colour).png().toBuffer());
    return sharp(await Promise.all(frames), { join: { animated: true } })
      .gif({ delay: [400, 400, 400] })
      .toBuffer();
  };
  const animatedWebp = async () =>
    sharp(await gif(), { animated: true })
      .webp()
      .toBuffer();
  const webm = () => {
    const path = join(flotilla.stack.varDir, 'loop.webm');
    execFileSync('ffmpeg', [
      ...['-nostdin', '-loglevel', 'error', '-f', 'lavfi', '-i', 'testsrc2=s=64x32:d=0.5', path],
    ]);
    return readFileSync(path);
  };

  it.each([
    {
      what: 'pictures become JPEG',
      sentAs: { type: 'image' },
      inputs: [
        ['image/heic', async () => heicFiles.turned],
        ['image/avif', () => picture().avif({ effort: 0 }).toBuffer()],
        ['image/tiff', () => picture().tiff().toBuffer()],
      ],
      mimetype: 'image/jpeg',
      filename: 'mine.jpg',
    },
    {
      what: 'what plays as a GIF becomes MP4',
      sentAs: { type: 'video', gif: true },
      inputs: [
        ['image/gif', gif],
        ['image/webp', animatedWebp],
        ['video/webm', async () => webm()],
      ],
      mimetype: 'video/mp4',
      filename: 'mine.mp4',
    },
    {
      what: 'stickers become WebP, and those that move still move',
      sentAs: { type: 'sticker' },
      inputs: [
        ['image/gif', gif],
        ['image/heic', async () => heicFiles.plain],
        ['image/png', () => picture().png().toBuffer()],
      ],
      mimetype: 'image/webp',
      filename: 'mine.webp',
    },
  ] as const)(
    '$what, from a message, a URL and an upload',
    async ({ sentAs, inputs, mimetype, filename }) => {
      const bytes = await Promise.all(inputs.map(([, make]) => make()));
      await eachWay(bytes, async (source, index) => {
        const [from] = inputs[index]!;
        const message = await sent({ ...sentAs, media: source });
        const media = { mimetype, filename, converted: { from } };
        expect(message).toMatchObject({ ...sentAs, media });
        const got = await bytesAt(message);
        expect(await arrived(message)).toMatchObject({
          ...sentAs,
          media: { mimetype, size: got.length, sha256: sha256(got) },
        });
        const [event] = await events('message.sent', message.id, 1);
        expect(event!.data).toMatchObject({ ...sentAs, media });
        if (mimetype === 'video/mp4') return;
        const { pages = 1, format } = await sharp(got).metadata();
        expect([format, pages > 1]).toEqual([mimetype.slice(6), from === 'image/gif']);
      });
    },
  );

  it('that is an MP4 plays as a GIF, byte for byte', async () => {
    const message = await sent({ type: 'video', gif: true, media: { data: base64(files.mp4) } });
    expect(message).toMatchObject({ gif: true, viewOnce: false, media: { converted: null } });
    const media = { sha256: sha256(files.mp4) };
    expect(await arrived(message)).toMatchObject({ type: 'video', gif: true, media });
    const theirs = await incoming({
      type: 'video',
      gif: true,
      media: { data: base64(files.mp4), mimetype: 'video/mp4' },
    });
    expect(theirs).toMatchObject({ type: 'video', gif: true, viewOnce: false });
  });

  it.each([
    ['image', files.png],
    ['video', files.mp4],
    ['voice', files.ogg],
  ])('can be opened only once: %s', async (type, bytes) => {
    const message = await sent({ type, viewOnce: true, media: { data: base64(bytes) } });
    expect(message).toMatchObject({ type, viewOnce: true, gif: false });
    expect(await arrived(message)).toMatchObject({ type, viewOnce: true, media: { sha256: sha256(bytes) } });
    const [event] = await events('message.sent', message.id, 1);
    expect(event!.data).toMatchObject({ viewOnce: true, gif: false });
  });

  it('that came in goes out again by its mediaId', async () => {
    const theirs = await incoming({
      type: 'image',
      media: { data: base64(files.png), mimetype: 'image/png' },
    });
    const message = await sent({ type: 'image', media: { mediaId: theirs.media.mediaId, caption: 'back' } });
    expect(await arrived(message)).toMatchObject({ text: 'back', media: { sha256: sha256(files.png) } });
  });

  it('that came in and was deleted is downloaded again', async () => {
    const bytes = Buffer.concat([files.pdf, Buffer.from('deleted')]);
    const theirs = await incoming({
      type: 'document',
      media: { data: base64(bytes), mimetype: 'application/pdf', filename: 'deleted.pdf' },
    });
    expect((await workspace.call('DELETE', `/media/${theirs.media.mediaId}`)).status).toBe(204);
    const again = await workspace.call('POST', `/messages/${theirs.id}/media`);
    expect(again).toMatchObject({ status: 200, body: { id: theirs.id, media: { sha256: sha256(bytes) } } });
    expect(again.body.media.mediaId).not.toBe(theirs.media.mediaId);
    expect((await download(again.body.media.mediaId)).equals(bytes)).toBe(true);
  });

  it('that WhatsApp Web cannot read fails, says why, and is no reason for a new browser', async () => {
    const starts = async () =>
      (await workspace.call('GET', `/accounts/${account.id}/events?limit=200`)).body.items.length;
    const before = await starts();
    // Its beginning is a picture's, and no more of it.
    const media = { data: base64(files.png.subarray(0, 40)), mimetype: 'image/png' };
    const { body } = await workspace.send({ accountId: account.id, to: phone, type: 'image', media });
    const message = await until(body.id, ({ status }) => status === 'failed', 60_000);
    expect(message.error).toMatchObject({
      code: 'whatsapp.not_sent',
      message: expect.stringContaining('decoded'),
    });
    expect(await starts()).toBe(before);
  });

  it('whose upload fails is sent when uploads work again, once', async () => {
    await flotilla.sandbox('PUT', '/faults', { uploadFailRate: 1 });
    const media = { data: base64(files.pdf), mimetype: 'application/pdf', filename: 'invoice.pdf' };
    const before = uploaded();
    const { body } = await workspace.send({ accountId: account.id, to: phone, type: 'document', media });
    // Each try encrypts it again: the first try has failed by then.
    await eventually('a second upload', async () => expect(uploaded()).toBeGreaterThan(before + 1));
    await flotilla.sandbox('DELETE', '/faults');
    const message = await until(body.id, ({ status }) => status === 'read', 60_000);
    const lines = (await flotilla.ledger()).filter((line) => line.whatsappId === message.whatsappId);
    expect(lines).toMatchObject([{ type: 'document', duplicate: false }]);
  });

  it('has a caption that is edited, is reacted to, and is revoked', async () => {
    const media = { data: base64(files.png), mimetype: 'image/png', caption: 'befor' };
    const { id, whatsappId } = await sent({ type: 'image', media });
    expect((await workspace.call('PATCH', `/messages/${id}`, { text: 'before' })).body).toMatchObject({
      text: 'before',
      editedAt: expect.any(String),
    });
    await flotilla.sandbox('POST', `/phones/${phone}/messages/${whatsappId}/reaction`, { emoji: '👍' });
    const { reactions } = await until(id, (message) => message.reactions.length > 0);
    expect(reactions).toMatchObject([
      { from: phone, phone, lid: expect.stringMatching(/@lid$/), emoji: '👍' },
    ]);
    expect((await workspace.call('POST', `/messages/${id}/revoke`)).status).toBe(200);
    expect(await arrived({ whatsappId })).toMatchObject({ revoked: true });
    const voice = await sent({ type: 'voice', media: { data: base64(files.ogg), mimetype: 'audio/ogg' } });
    expect(await workspace.call('PATCH', `/messages/${voice.id}`, { text: 'x' })).toMatchObject({
      status: 409,
      body: { code: 'message.cannot_edit' },
    });
  });

  it('that WhatsApp has lost does not lose its message, and can be asked for again', async () => {
    await flotilla.sandbox('PUT', '/faults', { downloadFailRate: 1 });
    const media = { data: base64(files.pdf), mimetype: 'application/pdf', filename: 'lost.pdf' };
    const line = await flotilla.sandbox('POST', `/phones/${phone}/messages`, {
      to: account.phoneNumber,
      type: 'document',
      text: 'here',
      media,
    });
    await flotilla.sandbox('DELETE', `/phones/${phone}/messages/${line.whatsappId}/media`);
    await flotilla.sandbox('DELETE', '/faults');
    const message = await received(line.whatsappId);
    expect(message).toMatchObject({
      text: 'here',
      media: { mediaId: null, filename: 'lost.pdf', error: { code: 'media.unavailable' } },
    });
    expect(await workspace.call('POST', `/messages/${message.id}/media`)).toMatchObject({
      status: 409,
      body: { code: 'media.unavailable' },
    });
    // The same file is sent again by somebody else: WhatsApp keeps one of each, and has it again.
    const text = await sent({ text: 'no media' });
    expect((await workspace.call('POST', `/messages/${text.id}/media`)).body.code).toBe('message.no_media');
  });

  it('survives the death of its instance in the middle of an upload: sent once', async () => {
    await flotilla.sandbox('PUT', '/faults', { uploadDelayMs: 30_000 });
    const before = uploaded();
    const media = { data: base64(files.mp4), mimetype: 'video/mp4', caption: 'once' };
    const { body } = await workspace.send({ accountId: account.id, to: phone, type: 'video', media });
    // WhatsApp has the bytes and has not said so.
    await eventually('an upload', async () => expect(uploaded()).toBeGreaterThan(before));
    expect((await workspace.call('GET', `/messages/${body.id}`)).body.status).toBe('sending');
    const { body: admin } = await flotilla.call('GET', '/admin/instances');
    process.kill(admin.items.find(({ id }: { id: string }) => id === account.instanceId).pid, 'SIGKILL');
    await flotilla.sandbox('DELETE', '/faults');
    const message = await until(body.id, ({ status }) => status === 'read', 90_000);
    const lines = (await flotilla.ledger()).filter((line) => line.whatsappId === message.whatsappId);
    expect(lines.filter(({ duplicate }) => !duplicate)).toHaveLength(1);
    expect((await bytesAt(message)).equals(files.mp4)).toBe(true);
    await workspace.untilStatus(account.id, 'ready', 60_000);
  }, 150_000);
});

describe('what is no media', () => {
  it('a place goes out and comes in', async () => {
    const location = { latitude: -6.1754, longitude: 106.8272, name: 'Monas', address: 'Gambir, Jakarta' };
    const message = await sent({ type: 'location', location });
    expect(message).toMatchObject({ type: 'location', location, text: null });
    expect(await arrived(message)).toMatchObject({
      type: 'location',
      location: { latitude: -6.1754, longitude: 106.8272, description: 'Monas\nGambir, Jakarta' },
    });
    const theirs = { latitude: 1.5, longitude: 2.5, description: 'Home\nA street' };
    expect(await incoming({ type: 'location', location: theirs })).toMatchObject({
      location: { latitude: 1.5, longitude: 2.5, name: 'Home', address: 'A street' },
      text: null,
    });
  });

  it('a contact goes out, several do, and they come in', async () => {
    const siti = { name: 'Siti Rahma', phone: '+62 812-3456-7890', organization: 'Toko Maju' };
    const one = await sent({ type: 'contact', contact: siti });
    const number = { number: '+6281234567890', phone: '6281234567890', label: 'cell' };
    expect(one.contact).toEqual([
      { ...siti, phone: '6281234567890', phones: [number], vcard: expect.stringContaining('FN:Siti Rahma') },
    ]);
    const [card] = (await arrived(one)).contacts;
    expect(card.name).toBe('Siti Rahma');
    expect(card.vcard).toContain('waid=6281234567890:+6281234567890');
    const two = await sent({ type: 'contact', contact: [siti, { name: 'Budi', phone: '+6281234567891' }] });
    expect((await arrived(two)).contacts.map(({ name }: Message) => name)).toEqual(['Siti Rahma', 'Budi']);
    expect((await incoming({ type: 'contact', contacts: [card] })).contact).toEqual([
      { ...one.contact[0], phones: [{ ...number, label: 'cell' }] },
    ]);
  });

  it('contacts of every form come in whole, and go out again as they came', async () => {
    const cards = [
      'BEGIN:VCARD\nVERSION:3.0\nN:Rahma;Siti;;;\nFN:Siti\nitem1.TEL;waid=6281234567890:+62 812-3456-7890\nitem1.X-ABLabel:Shop\nTEL;type=HOME:021-5550\nNOTE:Rings twice\nEND:VCARD',
      'BEGIN:VCARD\r\nVERSION:4.0\r\nFN:Budi\r\nTEL;VALUE=uri;TYPE="voice,work":tel:+49-30-123456;ext=1\r\nEMAIL:budi@example.com\r\nEND:VCARD',
      'BEGIN:VCARD\nVERSION:2.1\nN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:=C3=9Cmit\nEMAIL:x@example.com\nEND:VCARD',
    ];
    const contacts = cards.map((vcard, index) => ({ name: `Card ${index}`, vcard }));
    const { contact } = await incoming({ type: 'contact', contacts });
    expect(contact).toEqual([
      {
        name: 'Siti',
        phone: '6281234567890',
        phones: [
          { number: '+62 812-3456-7890', phone: '6281234567890', label: 'Shop' },
          { number: '021-5550', phone: null, label: 'home' },
        ],
        organization: null,
        vcard: cards[0],
      },
      {
        name: 'Budi',
        phone: '4930123456',
        phones: [{ number: '+49-30-123456', phone: '4930123456', label: 'work' }],
        organization: null,
        vcard: cards[1],
      },
      { name: 'Ümit', phone: null, phones: [], organization: null, vcard: cards[2] },
    ]);
    const again = await sent({ type: 'contact', contact });
    expect(again.contact).toEqual(contact);
    const arrivedCards = (await arrived(again)).contacts;
    expect(arrivedCards.map(({ name }: Message) => name)).toEqual(['Siti', 'Budi', 'Ümit']);
    expect(arrivedCards.map(({ vcard }: Message) => vcard)).toEqual(cards);
    // One contact in the singular, with two numbers and no card of its own.
    const phones = [{ number: '+1 415 555 2671', label: 'work' }, { number: '112' }];
    const made = await sent({ type: 'contact', contact: { name: 'Ada', phones } });
    expect(made.contact[0]).toMatchObject({
      phone: '14155552671',
      phones: [{ label: 'work' }, { phone: null }],
    });
    expect((await arrived(made)).contacts[0].vcard).toBe(made.contact[0].vcard);
  });

  it('a poll goes out, is voted in, and comes in', async () => {
    const poll = { question: 'When?', options: ['Morning', 'Evening'], multiple: false };
    const message = await sent({ type: 'poll', poll });
    expect(message).toMatchObject({ poll, votes: [] });
    expect(await arrived(message)).toMatchObject({ type: 'poll', poll });
    const vote = (options: string[]) =>
      flotilla.sandbox('POST', `/phones/${phone}/messages/${message.whatsappId}/vote`, { options });
    await vote(['Morning']);
    await until(message.id, ({ votes }) => votes[0]?.options[0] === 'Morning');
    await vote(['Evening']);
    const { votes } = await until(message.id, (now) => now.votes[0]?.options[0] === 'Evening');
    expect(votes).toMatchObject([{ from: phone, phone, lid: expect.any(String), options: ['Evening'] }]);
    const told = await events('message.poll_vote', message.id, 2);
    expect(told.map(({ data }) => data.vote.options)).toEqual([['Morning'], ['Evening']]);
    expect((await incoming({ type: 'poll', poll })).poll).toEqual(poll);
  });

  it('what nobody knows comes in as unsupported, with its name', async () => {
    expect(await incoming({ type: 'order' })).toMatchObject({ type: 'unsupported', whatsappType: 'order' });
  });

  it('an answer names what it answers, both ways', async () => {
    const question = await incoming({ text: 'When?' });
    const answer = await sent({ text: 'Tomorrow', replyTo: question.id });
    expect(answer.replyTo).toBe(question.id);
    expect(await arrived(answer)).toMatchObject({ replyTo: question.whatsappId });
    const back = await incoming({ text: 'Thanks', replyTo: answer.whatsappId });
    expect(back).toMatchObject({ replyTo: answer.id, quotedWhatsappId: answer.whatsappId });
    const unknown = await incoming({ text: 'Hm', replyTo: 'NOBODYS' });
    expect(unknown).toMatchObject({ replyTo: null, quotedWhatsappId: 'NOBODYS' });
    const elsewhere = await workspace.send({
      to: await flotilla.newPhone(),
      text: 'x',
      replyTo: question.id,
    });
    expect(elsewhere).toMatchObject({ status: 400, body: { errors: [{ path: 'replyTo' }] } });
  });
});

describe('a group', () => {
  it('is written to with mentions, and heard with whoever wrote', async () => {
    const other = await flotilla.newPhone();
    const { id: group } = await flotilla.sandbox('POST', '/groups', {
      owner: phone,
      subject: 'Customers',
      participants: [account.phoneNumber, other],
    });
    const media = { data: base64(files.png), mimetype: 'image/png', caption: `Hello @${other}` };
    const accepted = await workspace.send({
      accountId: account.id,
      to: group,
      type: 'image',
      media,
      mentions: [`+${other}`],
    });
    const message = await until(accepted.body.id, ({ status }) =>
      ['sent', 'delivered', 'read'].includes(status),
    );
    expect(message).toMatchObject({ to: group, mentions: [other], participant: null });
    const line = (await flotilla.ledger()).find(({ whatsappId }) => whatsappId === message.whatsappId);
    expect(line).toMatchObject({ to: group, mentions: [other], media: { sha256: sha256(files.png) } });
    const theirs = await incoming(
      {
        to: group,
        type: 'image',
        media: { data: base64(files.png), mimetype: 'image/png' },
        mentions: [account.phoneNumber],
      },
      other,
    );
    expect(theirs).toMatchObject({
      from: group,
      participant: { phone: other, lid: expect.stringMatching(/@lid$/) },
      mentions: [account.phoneNumber],
      media: { sha256: sha256(files.png), error: null },
    });
    const reply = await workspace.send({
      accountId: account.id,
      to: group,
      text: 'seen',
      replyTo: theirs.id,
    });
    const answered = await until(reply.body.id, ({ status }) =>
      ['sent', 'delivered', 'read'].includes(status),
    );
    const replied = (await flotilla.ledger()).find(({ whatsappId }) => whatsappId === answered.whatsappId);
    expect(replied).toMatchObject({ replyTo: theirs.whatsappId });
  });
});

describe('a reaction that is taken back while the account is away', () => {
  it('is missed when it is back', async () => {
    const { id, whatsappId } = await sent({ text: 'react' });
    const react = (emoji: string) =>
      flotilla.sandbox('POST', `/phones/${phone}/messages/${whatsappId}/reaction`, { emoji });
    await react('👍');
    await until(id, ({ reactions }) => reactions.length === 1);
    await workspace.call('POST', `/accounts/${account.id}/disconnect`);
    await workspace.untilStatus(account.id, 'disconnected');
    await react('');
    await workspace.call('POST', `/accounts/${account.id}/connect`);
    await workspace.untilStatus(account.id, 'ready');
    await until(id, ({ reactions }) => reactions.length === 0);
  });
});

describe('a link in a text', () => {
  it('has a preview, unless the caller wants none', async () => {
    const url = 'https://example.com/track?id=7';
    const text = `Your parcel: ${url}`;
    for (const linkPreview of [undefined, true, null])
      expect(await arrived(await sent({ text, linkPreview }))).toMatchObject({
        text,
        preview: { url, title: 'example.com' },
      });
    expect(await arrived(await sent({ text, linkPreview: false }))).not.toHaveProperty('preview');
    expect(await arrived(await sent({ text: 'no link' }))).not.toHaveProperty('preview');
  });
});

describe('a request', () => {
  const data = base64(files.png);
  it.each([
    ['text with media', { text: 'x', media: { data } }, 422, 'message.content_mismatch', 'media'],
    [
      'text beside media',
      { type: 'image', text: 'x', media: { data } },
      422,
      'message.content_mismatch',
      'text',
    ],
    [
      'a caption of a voice message',
      { type: 'voice', media: { data, caption: 'x' } },
      422,
      'message.content_mismatch',
      'media.caption',
    ],
    ...(
      [
        ['a document to be opened once', { type: 'document', viewOnce: true, media: { data } }, 'viewOnce'],
        ['a text to be opened once', { text: 'x', viewOnce: true }, 'viewOnce'],
        ['a sound file to be opened once', { type: 'audio', viewOnce: true, media: { data } }, 'viewOnce'],
        ['a GIF to be opened once', { type: 'video', viewOnce: true, gif: true, media: { data } }, 'gif'],
        ['an image as a GIF', { type: 'image', gif: true, media: { data } }, 'gif'],
        ['a sticker as a GIF', { type: 'sticker', gif: true, media: { data } }, 'gif'],
        ['an image without preview', { type: 'image', linkPreview: false, media: { data } }, 'linkPreview'],
      ] as const
    ).map(([what, message, path]) => [what, message, 422, 'message.content_mismatch', path] as const),
    [
      'mentions in a poll',
      { type: 'poll', poll: { question: 'q', options: ['a', 'b'] }, mentions: ['+6281234567890'] },
      422,
      'message.content_mismatch',
      'mentions',
    ],
    ['an image without media', { type: 'image' }, 400, 'validation.failed', 'media'],
    ['media of nothing', { type: 'image', media: {} }, 400, 'validation.failed', 'media'],
    [
      'media of two things',
      { type: 'image', media: { data, url: 'https://example.com/a.png' } },
      400,
      'validation.failed',
      'media',
    ],
    ['a video that is an image', { type: 'video', media: { data } }, 422, 'media.type_mismatch'],
    [
      'media that nobody has',
      { type: 'image', media: { mediaId: '01960000-0000-7000-8000-000000000000' } },
      404,
      'media.not_found',
    ],
    [
      'a poll of one option',
      { type: 'poll', poll: { question: 'q', options: ['a'] } },
      400,
      'validation.failed',
      'poll.options',
    ],
    [
      'a poll of equal options',
      { type: 'poll', poll: { question: 'q', options: ['a', 'a '] } },
      400,
      'validation.failed',
      'poll.options',
    ],
    [
      'a place that is not on earth',
      { type: 'location', location: { latitude: 91, longitude: 0 } },
      400,
      'validation.failed',
      'location.latitude',
    ],
    [
      'a contact without a number',
      { type: 'contact', contact: { name: 'x' } },
      400,
      'validation.failed',
      'contact.0.phone',
    ],
    [
      'a card that is no card',
      { type: 'contact', contact: { vcard: 'FN:x' } },
      400,
      'validation.failed',
      'contact.0.vcard',
    ],
    [
      'a contact that contradicts its card',
      { type: 'contact', contact: [{ name: 'y', vcard: 'BEGIN:VCARD\nVERSION:3.0\nFN:x\nEND:VCARD' }] },
      400,
      'validation.failed',
      'contact.0.name',
    ],
    ['no contact', { type: 'contact', contact: [] }, 400, 'validation.failed', 'contact'],
    ['a null', { type: 'contact', contact: null }, 400, 'validation.failed', 'contact'],
    ['an unknown type', { type: 'order' }, 400, 'validation.failed', 'type'],
  ] as [string, object, number, string, string?][])(
    'for %s is refused',
    async (_what, message, status, code, path) => {
      const answer = await workspace.send({ accountId: account.id, to: phone, ...message });
      expect(answer).toMatchObject({ status, body: { code } });
      if (path !== undefined) expect(answer.body.errors.map((error: Message) => error.path)).toContain(path);
    },
  );

  it('of a batch, and under an Idempotency-Key, takes every type', async () => {
    const { body } = await workspace.call('POST', '/messages/batch', {
      messages: [
        { accountId: account.id, to: phone, type: 'image', media: { data, caption: 'batch' } },
        { accountId: account.id, to: phone, type: 'image' },
        { accountId: account.id, to: phone, text: 'beside' },
      ],
    });
    expect(body.items).toMatchObject([
      { status: 202, message: { type: 'image', text: 'batch' } },
      { status: 400, error: { code: 'validation.failed' } },
      { status: 202, message: { type: 'text' } },
    ]);
    const message = {
      accountId: account.id,
      to: phone,
      type: 'document',
      media: { data: base64(files.pdf) },
    };
    const first = await workspace.send(message, { 'idempotency-key': 'one' });
    const again = await workspace.send(message, { 'idempotency-key': 'one' });
    expect(again.body.id).toBe(first.body.id);
    await until(first.body.id, ({ status }) => status === 'read');
  });
});
