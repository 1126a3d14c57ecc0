import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.js';
import { Flotilla, type LedgerEntry, type Workspace } from '../support/flotilla.js';

/*
 * What users of such gateways suffer from, each caused in the sandbox: nothing is lost, and nothing is doubled. The judge is
 * the ledger of the simulated WhatsApp.
 */

/** How many messages wait for a page that WhatsApp has broken. docs/whatsapp-web.md speaks of 200. */
const brokenMessages = Number(process.env.BROKEN_MESSAGES ?? 30);

let flotilla: Flotilla;
let workspace: Workspace;
let account: { id: string; phoneNumber: string };
let phone: string;

beforeAll(async () => {
  flotilla = await Flotilla.start({ instances: 1 });
  workspace = await flotilla.newWorkspace();
  [account] = (await workspace.linkedAccounts(1)) as [typeof account];
  phone = await flotilla.newPhone();
});
afterEach(() => flotilla.sandbox('DELETE', '/faults'));
afterAll(() => flotilla?.stop());

/** Accepts messages of one lane, whose texts tell their order. */
async function accept(run: string, count: number): Promise<void> {
  const messages = Array.from({ length: count }, (_message, number) => ({
    accountId: account.id,
    to: phone,
    text: `${run} ${number}`,
  }));
  const { body } = await workspace.call('POST', '/messages/batch', { messages });
  expect(body.items.map(({ status }: { status: number }) => status)).toEqual(messages.map(() => 202));
}

async function lines(run: string): Promise<LedgerEntry[]> {
  return (await flotilla.ledger()).filter(({ text }) => text.startsWith(`${run} `));
}

/** Everything of a run has arrived, in order and once, and Flotilla says so. @returns how often each was tried */
async function expectOnce(run: string, count: number): Promise<number[]> {
  const texts = Array.from({ length: count }, (_message, number) => `${run} ${number}`);
  const messages = await eventually(
    `all of ${run}`,
    async () => {
      const { body } = await workspace.call('GET', '/messages?direction=outgoing&limit=200');
      const found = (body.items as { text: string; status: string; attempts: number }[]).filter(({ text }) =>
        texts.includes(text),
      );
      if (found.every(({ status }) => ['sent', 'delivered', 'read'].includes(status))) return found;
      throw new Error(found.map(({ status }) => status).join(', '));
    },
    90_000,
  );
  expect(messages).toHaveLength(count);
  const { items } = await flotilla.sandbox('GET', `/phones/${phone}/inbox`);
  const received = items
    .map(({ text }: { text: string }) => text)
    .filter((text: string) => texts.includes(text));
  expect(received).toEqual(texts);
  return messages.map(({ attempts }) => attempts).reverse();
}

/** Begins to watch the account. @returns reads the statuses that it has had since, newest first */
async function newStatuses(): Promise<() => Promise<string[]>> {
  const read = async () => {
    const { body } = await workspace.call('GET', `/accounts/${account.id}/events?limit=200`);
    return body.items as { id: string; data: { status: string } }[];
  };
  const seen = new Set((await read()).map(({ id }) => id));
  return async () => (await read()).filter(({ id }) => !seen.has(id)).map(({ data }) => data.status);
}

describe('what users of such gateways suffer from', { timeout: 150_000 }, () => {
  it('detached frame before the send: the message is sent once the page is back', async () => {
    await flotilla.sandbox('PUT', '/faults', { reloadBeforeSendRate: 1, phone: account.phoneNumber });
    await accept('before', 4);
    expect(await expectOnce('before', 4)).toEqual([2, 2, 2, 2]);
    expect(await lines('before')).toHaveLength(4);
  });

  it('detached frame after the send: what was sent is not sent again', async () => {
    await flotilla.sandbox('PUT', '/faults', { reloadAfterSendRate: 1, phone: account.phoneNumber });
    await accept('after', 4);
    await expectOnce('after', 4);
    expect((await flotilla.sandbox('GET', '/stats')).reloads).toBe(4);
    expect(await lines('after')).toHaveLength(4);
  });

  it('inbound doubled: stored once, told once', async () => {
    await flotilla.sandbox('PUT', '/faults', { doubleIncoming: true, phone: account.phoneNumber });
    const texts = Array.from({ length: 5 }, (_message, number) => `doubled ${number}`);
    for (const text of texts)
      await flotilla.sandbox('POST', `/phones/${phone}/messages`, { to: account.phoneNumber, text });
    await eventually('every browser has heard it all', async () => {
      return (await flotilla.sandbox('GET', '/stats')).offlineQueued === 0;
    });
    await flotilla.sandbox('DELETE', '/faults');
    // What comes after it has come through the same gathering.
    await flotilla.sandbox('POST', `/phones/${phone}/messages`, {
      to: account.phoneNumber,
      text: 'doubled, last',
    });
    const stored = await eventually('all', async () => {
      const { body } = await workspace.call('GET', '/messages?direction=incoming');
      const found = body.items.map(({ text }: { text: string }) => text);
      return found.includes('doubled, last') && found;
    });
    expect(stored.reverse()).toEqual([...texts, 'doubled, last']);
  });

  it('inbound dropped: what came while the account was away is stored, in order and once', async () => {
    await workspace.call('POST', `/accounts/${account.id}/disconnect`);
    await eventually('away', async () => (await flotilla.sandbox('GET', '/stats')).online === 0);
    const texts = Array.from({ length: 20 }, (_message, number) => `away ${number}`);
    for (const text of texts)
      await flotilla.sandbox('POST', `/phones/${phone}/messages`, { to: account.phoneNumber, text });
    await workspace.call('POST', `/accounts/${account.id}/connect`);
    await workspace.untilStatus(account.id, 'ready');
    const stored = await eventually('all', async () => {
      const { body } = await workspace.call('GET', '/messages?direction=incoming&limit=100');
      const found = (body.items as { text: string }[]).filter(({ text }) => text.startsWith('away '));
      return found.length >= texts.length && found.map(({ text }) => text);
    });
    expect(stored.reverse()).toEqual(texts);
  });

  it('says WORKING but dead: a session without acks connects again, and nothing is sent twice', async () => {
    await accept('alive', 1);
    await expectOnce('alive', 1);
    await flotilla.sandbox('PUT', '/faults', { silent: true, phone: account.phoneNumber });
    await accept('dead', 4);
    await eventually('nobody hears it', async () => (await flotilla.sandbox('GET', '/stats')).unheard > 0);
    expect(await lines('dead')).toEqual([]);
    await expectOnce('dead', 4);
    expect(await lines('dead')).toHaveLength(4);
  });

  it('WhatsApp changes overnight: messages wait untried, and all leave when the page is whole again', async () => {
    const fresh = await newStatuses();
    // A new build is out, and its page lacks something. The page of the account loads itself again at the first send.
    const damage = { keysWithoutText: true, missing: ['WAWebFindChatAction'] };
    await flotilla.sandbox('PUT', '/build', { version: 'september', damage });
    await flotilla.sandbox('PUT', '/faults', { reloadBeforeSendRate: 1, phone: account.phoneNumber });
    await accept('broken', brokenMessages);
    const held = await eventually('the contract is broken', async () => {
      const found = await workspace.account(account.id);
      return found.contract === 'broken' && found;
    });
    expect(held).toMatchObject({
      status: 'ready',
      statusReason: expect.stringMatching(/^web_incompatible: .*WAWebFindChatAction/),
      webVersion: '2.3000.1047775310',
      contractMissing: expect.arrayContaining(['WAWebFindChatAction']),
    });
    await flotilla.sandbox('DELETE', '/faults');

    await flotilla.sandbox('POST', `/phones/${phone}/messages`, { to: account.phoneNumber, text: 'heard' });
    await eventually('it still receives', async () => {
      const { body } = await workspace.call('GET', '/messages?direction=incoming');
      return body.items.some(({ text }: { text: string }) => text === 'heard');
    });
    const [announced] = await workspace.events(['account.web_incompatible'], 1);
    expect(announced!.data).toMatchObject({ accountId: account.id, version: '2.3000.1047775310' });
    await eventually('it is in the health check', async () => {
      return (await flotilla.call('GET', '/health/ready')).body.webIncompatible === 1;
    });
    await eventually('it is in the metrics', async () => {
      const headers = { authorization: `Bearer ${flotilla.adminKey}` };
      const metrics = await (await fetch(`${flotilla.stack.urls.api}/metrics`, { headers })).text();
      return metrics.includes('flotilla_web_incompatible_accounts{version="2.3000.1047775310"} 1');
    });

    // A look that finds the same changes nothing.
    await workspace.call('POST', `/accounts/${account.id}/connect`);
    await eventually('it was loaded again', async () => {
      const statuses = await fresh();
      return statuses.filter((status) => status === 'syncing').length === 2 && statuses[0] === 'ready';
    });
    expect(await lines('broken')).toEqual([]);

    await flotilla.sandbox('PUT', '/build', { version: 'september' });
    expect((await workspace.call('POST', `/accounts/${account.id}/connect`)).status).toBe(202);
    const [first, ...others] = await expectOnce('broken', brokenMessages);
    // The first was interrupted by the load of the page. Nothing was tried while the contract was broken.
    expect(first).toBe(2);
    expect(new Set(others)).toEqual(new Set([1]));
    expect(await workspace.account(account.id)).toMatchObject({
      status: 'ready',
      statusReason: null,
      contract: 'ok',
      contractMissing: [],
    });
    // No browser and no connection was started for it: only the page was loaded.
    expect([...new Set(await fresh())].sort()).toEqual(['ready', 'syncing']);
  });

  it('WhatsApp changes in a way that only sends show: messages wait too, and none fails', async () => {
    const damage = { throwing: ['WAWebSendMsgChatAction.addAndSendMsgToChat'] };
    await flotilla.sandbox('PUT', '/build', { version: 'september', damage });
    await workspace.call('POST', `/accounts/${account.id}/disconnect`);
    await workspace.untilStatus(account.id, 'disconnected');
    await workspace.call('POST', `/accounts/${account.id}/connect`);
    expect((await workspace.untilStatus(account.id, 'ready')).contract).toBe('ok');
    const fresh = await newStatuses();
    await accept('throws', 6);
    const held = await eventually(
      'sends have shown it',
      async () => {
        const found = await workspace.account(account.id);
        return found.contract === 'broken' && found;
      },
      60_000,
    );
    expect(held.statusReason).toMatch(/^web_incompatible: TypeError: .*addAndSendMsgToChat/);
    await flotilla.sandbox('PUT', '/build', { version: 'september' });
    await workspace.call('POST', `/accounts/${account.id}/connect`);
    expect(await expectOnce('throws', 6)).toEqual([1, 1, 1, 1, 1, 1]);
    const failures = await workspace.call('GET', '/messages?direction=outgoing&status=failed');
    expect(failures.body.items).toEqual([]);
    expect([...new Set(await fresh())].sort()).toEqual(['ready', 'syncing']);
  });
});

describe('a phone with another number that links an account', () => {
  let other: string;
  let relinked: { id: string; phoneNumber: string };
  let waiting: string;

  beforeAll(async () => {
    [relinked] = (await workspace.linkedAccounts(1)) as [typeof relinked];
    other = await flotilla.newPhone();
    await send('before');
    await logOut();
    waiting = (await workspace.send({ accountId: relinked.id, to: phone, text: 'relinked waiting' })).body.id;
  });

  const send = async (text: string) =>
    (
      await workspace.call('POST', '/messages?wait=sent&timeoutMs=30000', {
        accountId: relinked.id,
        to: phone,
        text: `relinked ${text}`,
      })
    ).body;
  const logOut = async () => {
    expect((await workspace.call('POST', `/accounts/${relinked.id}/logout`)).status).toBe(202);
    await workspace.untilStatus(relinked.id, 'logged_out');
  };
  const connect = (body: object = {}) => workspace.call('POST', `/accounts/${relinked.id}/connect`, body);
  const scan = async (number: string) => {
    await workspace.untilStatus(relinked.id, 'qr');
    await eventually(
      'scanned',
      async () =>
        (await workspace.call('POST', `/accounts/${relinked.id}/sandbox-scan`, { phone: number })).status ===
        200,
    );
  };
  /** The numbers that the events of a type name, in order. */
  const told = async (type: string, count: number) =>
    (await workspace.events([type], count, ({ accountId }) => accountId === relinked.id)).map(
      ({ data }) => data,
    );
  /** The phone was refused so often, and each time was told once. */
  const refusals = async (count: number) => {
    const data = { accountId: relinked.id, phoneNumber: relinked.phoneNumber, otherPhoneNumber: other };
    expect(await told('account.other_number', count)).toEqual(Array.from({ length: count }, () => data));
  };
  const expectRefused = async () => {
    const account = await workspace.untilStatus(relinked.id, 'disconnected');
    expect(account).toMatchObject({ desiredState: 'disconnected', phoneNumber: relinked.phoneNumber });
    expect(account.statusReason).toMatch(/^other_number: /);
    // The sandbox has no linked browser of the phone, and no credentials are left here.
    await expect(flotilla.sandbox('POST', `/phones/${other}/unlink`)).rejects.toThrow('404');
    const profile = join(flotilla.stack.varDir, 'sessions', `session-${relinked.id}`);
    await eventually('no credentials', () => !existsSync(profile));
  };

  it('is refused, by QR code and by pairing code', async () => {
    await connect();
    await scan(other);
    await expectRefused();
    await refusals(1);

    await connect({ method: 'code', phoneNumber: `+${other}` });
    await workspace.untilStatus(relinked.id, 'pairing');
    const { code } = (await workspace.call('GET', `/accounts/${relinked.id}/pairing-code`)).body;
    await flotilla.sandbox('POST', `/phones/${other}/enter-code`, { code });
    await expectRefused();
    await refusals(2);
  });

  it('is refused by the next owner if the instance dies before it is unlinked; nothing of it is sent or stored', async () => {
    const damage = { throwing: ['WAWebUnpairDeviceJob.unpairDevice'] };
    await flotilla.sandbox('PUT', '/build', { version: 'september', damage });
    await connect();
    await scan(other);
    const account = await workspace.untilStatus(relinked.id, 'reconnecting');
    expect(account.statusReason).toMatch(/^other_number: .*not confirmed/);
    // It is still linked: what it gets now is nobody's business.
    await flotilla.sandbox('POST', `/phones/${phone}/messages`, { to: other, text: 'relinked secret' });
    const pid = await flotilla.stack.kill('flotilla:instance_00');
    await flotilla.sandbox('PUT', '/build', { version: 'september' });
    await flotilla.stack.waitUntilRunning('flotilla:instance_00', { notPid: pid });
    await expectRefused();
    // The second refusal is the first one once more.
    await refusals(3);

    expect((await workspace.call('GET', `/messages/${waiting}`)).body).toMatchObject({
      status: 'queued',
      attempts: 0,
      from: relinked.phoneNumber,
    });
    expect(await lines('relinked')).toMatchObject([{ from: relinked.phoneNumber }, { from: phone }]);
    const { body } = await workspace.call('GET', `/messages?accountId=${relinked.id}&direction=incoming`);
    expect(body.items).toEqual([]);
  });

  it('links it if its connect allows that; each message keeps the number that sent it', async () => {
    await connect({ allowNumberChange: true });
    await scan(other);
    expect(await workspace.untilStatus(relinked.id, 'ready')).toMatchObject({ phoneNumber: other });
    expect(await told('account.number_changed', 1)).toEqual([
      { accountId: relinked.id, phoneNumber: other, previousPhoneNumber: relinked.phoneNumber },
    ]);
    const isOwn = ({ accountId }: { accountId: string }) => accountId === relinked.id;
    const all = await workspace.events(['account.other_number', 'account.number_changed'], 4, isOwn);
    expect(all.map(({ type }) => type).filter((type) => type === 'account.other_number')).toHaveLength(3);
    await eventually('sent', async () => (await workspace.call('GET', `/messages/${waiting}`)).body.sentAt);
    expect(await send('after')).toMatchObject({ from: other });
    const { body } = await workspace.call('GET', `/messages?accountId=${relinked.id}&direction=outgoing`);
    expect(body.items.map(({ text, from }: { text: string; from: string }) => [text, from])).toEqual([
      ['relinked after', other],
      ['relinked waiting', other],
      ['relinked before', relinked.phoneNumber],
    ]);
    const sent = await workspace.events(['message.sent'], 3, isOwn);
    expect(sent.map(({ data }) => data.from)).toEqual([relinked.phoneNumber, other, other]);

    // The permission was for one connect. The first number is another number now.
    await logOut();
    await connect();
    await scan(relinked.phoneNumber);
    await workspace.untilStatus(relinked.id, 'disconnected');
    await connect();
    await scan(other);
    expect(await workspace.untilStatus(relinked.id, 'ready')).toMatchObject({ phoneNumber: other });
  }, 120_000);

  it.each([
    ['Brazil', '5511987654321', '551187654321'],
    ['Mexico', '5215512345678', '525512345678'],
    ['Argentina', '541123456789', '5491123456789'],
  ])('is the same phone if WhatsApp has another form of its number: %s', async (_country, before, after) => {
    await flotilla.sandbox('POST', '/phones', { phone: before });
    const id = await workspace.newAccount();
    relinked = { id, phoneNumber: before };
    await scan(before);
    await workspace.untilStatus(id, 'ready');
    await logOut();
    await flotilla.sandbox('POST', `/phones/${before}/change-number`, { to: after });
    await connect();
    await scan(after);
    // It is the same number, and stays as it was.
    expect(await workspace.untilStatus(id, 'ready')).toMatchObject({ phoneNumber: before });
    expect(await send('same')).toMatchObject({ from: before });
  });
});
