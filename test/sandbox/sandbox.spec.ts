import { createHash, randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { request } from 'node:https';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { proofOf } from '../../src/sandbox/wire/proof.js';
import { type Account, SandboxHarness, until } from './sandbox.harness.js';

let sandbox: SandboxHarness;

beforeAll(async () => {
  sandbox = await SandboxHarness.start();
}, 30_000);

afterAll(async () => {
  await sandbox.stop();
}, 30_000);

describe('the sandbox', { timeout: 60_000 }, () => {
  let account: Account;

  it('links by QR code, sends, and acknowledges up to read', async () => {
    account = await sandbox.linked();
    const friend = await sandbox.phone('Budi');
    const before = (await sandbox.ledger()).length;
    const message = await account.send(friend, 'Halo Budi');
    expect(message.ack).toBeGreaterThanOrEqual(1);
    await until('ack 3', () => account.acksOf(message.id.id).includes(3));
    expect(account.acksOf(message.id.id)).toEqual([1, 2, 3]);
    const lines = await sandbox.ledger(before);
    expect(lines).toMatchObject([
      {
        from: account.phone,
        to: friend,
        whatsappId: message.id.id,
        text: 'Halo Budi',
        type: 'text',
        duplicate: false,
      },
    ]);
    expect(await sandbox.inbox(friend)).toMatchObject([{ text: 'Halo Budi', from: account.phone }]);
  });

  it('shows an incoming message, and what the owner wrote on the phone', async () => {
    const friend = await sandbox.phone('Citra');
    await sandbox.call('POST', `/phones/${friend}/messages`, { to: account.phone, text: 'apa kabar' });
    // A new chat begins with a notice, which the library gives out as a message of the other person.
    const [notice, incoming] = await until('the message', () => {
      const messages = account.received.filter((m) => m.from === `${friend}@c.us`);
      return messages.length === 2 && messages;
    });
    expect(notice).toMatchObject({ body: '', fromMe: false, type: 'e2e_notification' });
    expect(incoming).toMatchObject({ body: 'apa kabar', fromMe: false, type: 'chat' });
    const chat = await account.client.getChatById(`${friend}@c.us`);
    expect(chat).toMatchObject({ name: 'Citra', unreadCount: 1 });
    expect(await account.client.sendSeen(`${friend}@c.us`)).toBe(true);
    expect((await account.client.getChatById(`${friend}@c.us`)).unreadCount).toBe(0);

    const own = await sandbox.call<{ whatsappId: string }>('POST', `/phones/${account.phone}/messages`, {
      to: friend,
      text: 'from the phone',
    });
    const created = await until('the own message', () =>
      account.created.find((m) => m.id.id === own.body.whatsappId),
    );
    expect(created).toMatchObject({ body: 'from the phone', fromMe: true, to: `${friend}@c.us` });
    expect(await sandbox.inbox(friend)).toMatchObject([{ text: 'from the phone' }]);
  });

  it('counts how many messages of one sender are on their way at once', async () => {
    const friend = await sandbox.phone();
    for (const text of ['one', 'after', 'the other']) await account.send(friend, text);
    expect((await sandbox.stats()).maxInFlight).toBe(1);
    await sandbox.call('PUT', '/faults', { ackDelayMs: 300, phone: account.phone });
    await Promise.all(['three', 'at', 'once'].map((text) => account.send(friend, text)));
    await sandbox.call('DELETE', '/faults');
    expect((await sandbox.stats()).maxInFlight).toBe(3);
  });

  it('carries messages between two linked accounts', async () => {
    const other = await sandbox.linked();
    const message = await account.send(other.phone, 'to another account');
    const incoming = await until('the message', () => other.received.find(({ type }) => type === 'chat'));
    expect(incoming).toMatchObject({ body: 'to another account', from: `${account.phone}@c.us` });
    expect(incoming.id.id).toBe(message.id.id);
    await until('everything is confirmed', async () => (await sandbox.stats()).offlineQueued === 0);
    await other.close();
  });

  it('knows who is registered', async () => {
    const friend = await sandbox.phone();
    expect(await account.client.getNumberId(friend)).toMatchObject({ _serialized: `${friend}@c.us` });
    expect(await account.client.getNumberId('628129999999999')).toBeNull();
    await expect(account.send('628129999999999', 'nobody')).rejects.toThrow('No LID for user');
    const [ids] = await account.client.getContactLidAndPhone([`${friend}@c.us`]);
    expect(ids).toMatchObject({ pn: `${friend}@c.us`, lid: expect.stringMatching(/@lid$/) });
    expect((await account.client.getContactById(`${friend}@c.us`)).number).toBe(friend);
    expect(await account.client.getState()).toBe('CONNECTED');
    expect((await account.client.getChats()).length).toBeGreaterThan(0);
    expect((await account.client.getContacts()).length).toBeGreaterThan(0);
  });

  it('takes a message id that arrived already for a duplicate', async () => {
    const friend = await sandbox.phone();
    const { duplicates = 0 } = await sandbox.stats();
    const before = (await sandbox.ledger()).length;
    await account.client.pupPage?.evaluate(`
      window.keptNewId = window.require('WAWebMsgKey').newId;
      window.require('WAWebMsgKey').newId = async () => '3EB0DEADBEEF00112233';
    `);
    const first = await account.send(friend, 'once');
    await expect(account.send(friend, 'once')).rejects.toThrow('DuplicateMessageError');
    await account.client.pupPage?.evaluate(`window.require('WAWebMsgKey').newId = window.keptNewId`);
    expect((await sandbox.ledger(before)).map((line) => line.duplicate)).toEqual([false]);
    // The page refuses a second message under a known id, but it sends the first one again when it is told to.
    expect(first.id.id).toBe('3EB0DEADBEEF00112233');
    await account.client.pupPage?.evaluate(`
      const message = window.require('WAWebCollections').Msg.get('${first.id._serialized}');
      window.require('WAWebSendMsgChatAction').resendMsgToChat(undefined, Promise.resolve(message));
    `);
    expect(await sandbox.inbox(friend)).toHaveLength(1);
    expect((await sandbox.ledger(before)).map((line) => line.duplicate)).toEqual([false, true]);
    expect((await sandbox.stats()).duplicates).toBe(duplicates + 1);
  });

  it('refuses with ack -1, delays and drops acks as told', async () => {
    const friend = await sandbox.phone();
    await sandbox.call('PUT', '/faults', { refuseRate: 1, phone: account.phone });
    const refused = await account.send(friend, 'refused');
    expect(refused.ack).toBe(-1);
    expect(await sandbox.inbox(friend)).toEqual([]);
    await sandbox.call('PUT', '/faults', { readAcks: false, ackDelayMs: 300, phone: account.phone });
    const started = Date.now();
    const slow = await account.send(friend, 'slow');
    expect(Date.now() - started).toBeGreaterThanOrEqual(290);
    await until('ack 2', () => account.acksOf(slow.id.id).includes(2));
    await sandbox.call('DELETE', '/faults');
    expect(account.acksOf(slow.id.id)).toEqual([1, 2]);
    expect((await sandbox.call('PUT', '/faults', { nonsense: 1 })).status).toBe(400);
  });

  it('acknowledges a repetition of what it accepted, even while it refuses', async () => {
    const friend = await sandbox.phone();
    const before = (await sandbox.ledger()).length;
    await sandbox.call('PUT', '/faults', { dropAckRate: 1, phone: account.phone });
    const sending = account.send(friend, 'the ack is lost');
    await until('it to be accepted', async () => (await sandbox.ledger()).length > before);
    await sandbox.call('PUT', '/faults', { offline: true, phone: account.phone });
    await sandbox.call('PUT', '/faults', { refuseRate: 1, phone: account.phone });
    expect((await sending).ack).toBeGreaterThanOrEqual(1);
    await sandbox.call('DELETE', '/faults');
    expect((await sandbox.ledger(before)).map(({ duplicate }) => duplicate)).toEqual([false, true]);
  });

  it('sends what a cut connection left open again under the same id, and nothing twice', async () => {
    const friend = await sandbox.phone();
    await sandbox.call('PUT', '/faults', { disconnectRate: 0.5, phone: account.phone });
    const sent = await Promise.all(
      Array.from({ length: 20 }, (_, i) => account.send(friend, `through the storm ${i}`)),
    );
    await sandbox.call('DELETE', '/faults');
    expect(sent.every((message) => message.ack >= 1)).toBe(true);
    const inbox = await sandbox.inbox(friend);
    expect(new Set(inbox.map((entry) => entry.text)).size).toBe(20);
    expect(inbox).toHaveLength(20);
  });

  it('restores the account without a QR code after kill -9 of the browser, with its messages', async () => {
    const friend = await sandbox.phone();
    const message = await account.send(friend, 'before the crash');
    await until('ack 3', () => account.acksOf(message.id.id).includes(3));
    await account.kill();
    await sandbox.call('POST', `/phones/${friend}/messages`, {
      to: account.phone,
      text: 'while you were away',
    });
    const late = await sandbox.phone('Late');
    for (let i = 0; i < 30; i += 1) {
      await sandbox.call('POST', `/phones/${late}/messages`, { to: account.phone, text: `offline ${i}` });
    }

    const phone = account.phone;
    const restored = sandbox.account(account.profile.split('/').at(-1));
    void restored.open();
    await restored.ready();
    expect(restored.qrs).toEqual([]);
    expect(restored.phone).toBe(phone);
    const kept = await restored.client.getMessageById(message.id._serialized);
    expect(kept).toMatchObject({ body: 'before the crash', ack: 3 });
    const chat = await restored.client.getChatById(`${late}@c.us`);
    expect(chat.unreadCount).toBe(30);
    const missed = await chat.fetchMessages({ limit: 100 });
    expect(missed.map((m) => m.body)).toEqual(Array.from({ length: 30 }, (_, i) => `offline ${i}`));
    await until('everything is confirmed', async () => (await sandbox.stats()).offlineQueued === 0);
    expect((await sandbox.stats()).conflicts).toBe(0);
    account = restored;
  });

  it('stores the credential so that even a browser killed right after the scan has it', async () => {
    const fresh = sandbox.account('killed-early');
    void fresh.open();
    const phone = await sandbox.phone();
    const qr = await until('QR code', () => fresh.qrs.at(-1));
    expect((await sandbox.call('POST', `/phones/${phone}/scan`, { qr })).status).toBe(200);
    await fresh.kill();
    const again = sandbox.account('killed-early');
    void again.open();
    await again.ready();
    expect(again.qrs).toEqual([]);
    await again.close();
  });

  it('links by pairing code', async () => {
    const phone = await sandbox.phone();
    const paired = sandbox.account(undefined, { pairWithPhoneNumber: { phoneNumber: phone } });
    void paired.open();
    const code = await until('pairing code', () => paired.codes.at(-1));
    expect(code).toMatch(/^[1-9A-Z]{8}$/);
    const other = await sandbox.phone();
    expect((await sandbox.call('POST', `/phones/${other}/enter-code`, { code })).status).toBe(409);
    const typed = `${code.slice(0, 4)}-${code.slice(4)}`;
    expect((await sandbox.call('POST', `/phones/${phone}/enter-code`, { code: typed })).status).toBe(200);
    await paired.ready();
    expect(paired.phone).toBe(phone);
    await paired.close();
  });

  it('refuses a QR code that is no longer shown', async () => {
    await sandbox.call('PUT', '/faults', { qrLifetimeMs: 300 });
    const waiting = sandbox.account();
    void waiting.open();
    await until('a second QR code', () => waiting.qrs.length > 1);
    await sandbox.call('DELETE', '/faults');
    const phone = await sandbox.phone();
    const answer = await sandbox.call<{ message: string }>('POST', `/phones/${phone}/scan`, {
      qr: waiting.qrs[0],
    });
    expect(answer.status).toBe(409);
    expect(answer.body.message).toContain('scan the current code');
    await waiting.close();
  });

  it('reports two browsers with one credential as a conflict: the older one loses', async () => {
    const first = await sandbox.linked();
    await first.close();
    await sandbox.copyProfile(first, 'copy-a');
    await sandbox.copyProfile(first, 'copy-b');
    const { conflicts = 0 } = await sandbox.stats();
    const older = sandbox.account('copy-a');
    void older.open();
    await older.ready();
    expect((await sandbox.stats()).conflicts).toBe(conflicts);
    const newer = sandbox.account('copy-b');
    void newer.open();
    await newer.ready();
    await until('the older one to go', () => older.disconnected.includes('CONFLICT'));
    expect((await sandbox.stats()).conflicts).toBe(conflicts + 1);
    expect(newer.disconnected).toEqual([]);
    await newer.close();
  });

  it('reconnects by itself after the sandbox was restarted, and misses nothing', async () => {
    const friend = await sandbox.phone();
    await account.send(friend, 'before the restart');
    const lines = await sandbox.ledger();
    await sandbox.shutDown();
    const during = account.send(friend, 'during the restart');
    await sandbox.boot();
    await during;
    expect(await sandbox.ledger()).toMatchObject([
      ...lines.map(({ seq, whatsappId }) => ({ seq, whatsappId })),
      { text: 'during the restart' },
    ]);
    expect((await sandbox.inbox(friend)).map((entry) => entry.text)).toEqual([
      'before the restart',
      'during the restart',
    ]);
    await sandbox.call('POST', `/phones/${friend}/messages`, { to: account.phone, text: 'back again' });
    await until('the message', () => account.received.some((m) => m.body === 'back again'));
    expect(account.disconnected).toEqual([]);
  });

  it('logs the page out when its phone unlinks it', async () => {
    const victim = await sandbox.linked();
    const phone = victim.phone;
    expect((await sandbox.call('POST', `/phones/${phone}/unlink`, {})).status).toBe(200);
    await until('LOGOUT', () => victim.disconnected.includes('LOGOUT'));
    await until('a new QR code', () => victim.qrs.length > 1);
    expect((await sandbox.call('POST', `/phones/${phone}/unlink`, {})).status).toBe(404);
    // The same browser can be linked again, here to another phone.
    const other = await sandbox.phone();
    await sandbox.call('POST', `/phones/${other}/scan`, { qr: victim.qrs.at(-1) });
    await victim.ready(2);
    expect(victim.phone).toBe(other);
    await victim.close();
  });

  it('asks for a QR code again when it was unlinked while it was away', async () => {
    const away = await sandbox.linked();
    const phone = away.phone;
    await away.close();
    await sandbox.call('POST', `/phones/${phone}/unlink`, {});
    const back = sandbox.account(away.profile.split('/').at(-1));
    void back.open();
    await until('a QR code', () => back.qrs.length > 0);
    await back.close();
  });

  it('survives a reload of the page', async () => {
    const friend = await sandbox.phone();
    const message = await account.send(friend, 'before the reload');
    const readyBefore = account.readyCount;
    await account.client.pupPage?.reload();
    await account.ready(readyBefore + 1);
    expect(await account.client.getMessageById(message.id._serialized)).toMatchObject({
      body: 'before the reload',
    });
    await account.send(friend, 'after the reload');
    expect(await sandbox.inbox(friend)).toHaveLength(2);
    expect(account.disconnected).toEqual([]);
  });

  it('holds what is sent while the network is down, and sends it in order afterwards', async () => {
    const friend = await sandbox.phone();
    await sandbox.call('PUT', '/faults', { offline: true, phone: account.phone });
    await until('the connection to be cut', () => account.states.at(-1) === 'OPENING');
    const sending = Promise.all(['one', 'two', 'three'].map((text) => account.send(friend, text)));
    await sandbox.call('DELETE', '/faults');
    await sending;
    expect((await sandbox.inbox(friend)).map((entry) => entry.text)).toEqual(['one', 'two', 'three']);
  });

  it('unlinks a browser that logs out, if it is reached; the page says the same without that', async () => {
    const lost = await sandbox.linked();
    const { linked = 0 } = await sandbox.stats();
    await sandbox.call('PUT', '/faults', { offline: true, phone: lost.phone });
    const returned = await lost.client.pupPage?.evaluate(
      `window.require('WAWebSocketModel').Socket.logout() === undefined`,
    );
    expect(returned).toBe(true);
    await until('LOGOUT', () => lost.disconnected.includes('LOGOUT'));
    await until('a QR code', () => lost.qrs.length > 1);
    expect((await sandbox.stats()).linked).toBe(linked);
    // Its browser stays open: the library still injects itself into the new page.

    const leaver = await sandbox.linked();
    await leaver.client.logout();
    await until('unlinked', async () => (await sandbox.stats()).linked === linked);
    const again = sandbox.account(leaver.profile.split('/').at(-1));
    void again.open();
    await until('a QR code', () => again.qrs.length > 0);
    await again.close();
  });

  it('tells which modules it lacks', async () => {
    await expect(account.client.pupPage?.evaluate(`window.require('WAWebNoSuchThing')`)).rejects.toThrow(
      'WAWebNoSuchThing',
    );
    const stats = await until('the report', async () => {
      const { unknownModules } = await sandbox.stats();
      return Object.keys(unknownModules).length > 0 && unknownModules;
    });
    expect(stats).toEqual({ WAWebNoSuchThing: 1 });
  });

  it('stores uploads of linked browsers only, whole, and of the size that WhatsApp allows', async () => {
    const own = await sandbox.linked();
    const bytes = randomBytes(300_000);
    const hash = createHash('sha256').update(bytes).digest('base64');
    const upload = (authorization: string | undefined, body = bytes) =>
      new Promise<{ status: number; path?: string }>((resolve, reject) => {
        const call = request({
          host: '127.0.0.1',
          port: sandbox.server.port,
          rejectUnauthorized: false,
          agent: false,
          method: 'POST',
          path: `/v/media?hash=${encodeURIComponent(hash)}`,
          headers: {
            'content-length': body.length,
            ...(authorization === undefined ? {} : { authorization }),
          },
        });
        call.on('response', (response) => {
          response.toArray().then((chunks: Buffer[]) => {
            const text = Buffer.concat(chunks).toString();
            const answer =
              text === '' ? {} : { path: (JSON.parse(text) as { directPath: string }).directPath };
            resolve({ status: response.statusCode!, ...answer });
          }, reject);
        });
        call.on('error', reject);
        call.end(body);
      });
    // What the page of a linked browser would send.
    const secret = (await own.client.pupPage!.evaluate(
      `window.require('WAWebUserPrefsMultiDevice').getADVSecretKey()`,
    )) as string;
    const journal = await readFile(join(sandbox.dir, 'sandbox/phones.ndjson'), 'utf8');
    const [, id] = new RegExp(`"phone":"${own.phone}".*"id":"(\\w+)"`).exec(journal)!;
    const proof = `${id}:${proofOf(secret, `upload:${hash}`)}`;
    const files = () => readdir(join(sandbox.dir, 'sandbox/media'));
    const before = (await files()).length;
    for (const stranger of [undefined, '', 'x:y', `${id}:`, `${id}:${hash}`, proof.slice(1)])
      expect(await upload(stranger), stranger).toEqual({ status: 401 });
    expect(await upload(proof, Buffer.from('other bytes'))).toEqual({ status: 400 });
    expect(await files()).toHaveLength(before);
    expect(await upload(proof)).toMatchObject({ status: 200, path: expect.stringMatching(/^\/v\/media\//) });
    expect(await files()).toHaveLength(before + 1);
    const { phone } = own;
    const shown = own.qrs.length;
    await sandbox.call('POST', `/phones/${phone}/unlink`);
    expect(await upload(proof)).toEqual({ status: 401 });
    // The library starts again in the page. It does not bear that its browser is closed meanwhile.
    const qr = await until('a new QR code', () => own.qrs.slice(shown).at(-1));
    await sandbox.call('POST', `/phones/${phone}/scan`, { qr });
    await own.ready(2);
  });

  it('empties the ledger', async () => {
    expect((await sandbox.call('DELETE', '/ledger')).status).toBe(204);
    expect(await sandbox.ledger()).toEqual([]);
    const friend = await sandbox.phone();
    await account.send(friend, 'first line');
    expect(await sandbox.ledger()).toMatchObject([{ seq: 1, text: 'first line' }]);
  });
});
