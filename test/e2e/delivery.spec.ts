import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.js';
import { Flotilla, type Workspace } from '../support/flotilla.js';

let flotilla: Flotilla;
let workspace: Workspace;
let account: { id: string; phoneNumber: string };
let other: { id: string; phoneNumber: string };
let phone: string;

/** The watchdog is made impatient, so that a lost ack is noticed soon. */
beforeAll(async () => {
  flotilla = await Flotilla.start({ instances: 2, env: { ACK_TIMEOUT_MS: '1500' } });
  workspace = await flotilla.newWorkspace();
  [account, other] = (await workspace.linkedAccounts(2)) as [typeof account, typeof other];
  phone = await flotilla.newPhone();
});
afterAll(() => flotilla?.stop());
afterEach(() => flotilla?.sandbox('DELETE', '/faults'));

/** What the recipients got of the texts that begin so. */
async function received(prefix: string) {
  const entries = await flotilla.ledger();
  return entries.filter(({ text, duplicate }) => text.startsWith(prefix) && !duplicate);
}

const message = async (id: string) => (await workspace.call('GET', `/messages/${id}`)).body;

async function send(text: string, more: object = {}): Promise<string> {
  const { status, body } = await workspace.send({ accountId: account.id, to: phone, text, ...more });
  expect(status).toBe(202);
  return body.id;
}

const untilStatus = (id: string, ...statuses: string[]) =>
  eventually(`${id} ${statuses.join(' or ')}`, async () => {
    const { status, error } = await message(id);
    return statuses.includes(status) || Promise.reject(new Error(`${status} ${JSON.stringify(error)}`));
  });

describe('time', () => {
  it('lets a scheduled message leave within a second of its time, and not before', async () => {
    const sendAt = new Date(Date.now() + 2_500);
    const ids = await Promise.all(
      Array.from({ length: 5 }, (_message, number) =>
        send(`scheduled/${number}`, { sendAt: sendAt.toISOString() }),
      ),
    );
    expect((await message(ids[0]!)).status).toBe('scheduled');
    const entries = await eventually('all of them', async () => {
      const found = await received('scheduled/');
      return found.length === ids.length && found;
    });
    const lateness = entries.map(({ at }) => Date.parse(at) - sendAt.getTime());
    expect(Math.min(...lateness)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...lateness)).toBeLessThan(1_000);
  });

  it('lets a message expire that cannot be sent in time, and cancels a message that waits', async () => {
    await flotilla.sandbox('PUT', '/faults', { phone: account.phoneNumber, offline: true });
    await eventually('the account is offline', async () => {
      const { online, linked } = await flotilla.sandbox('GET', '/stats');
      return online < linked;
    });
    const blocker = await send('waits for its connection');
    const expiring = await send('expires', { expiresAt: new Date(Date.now() + 1_500).toISOString() });
    const cancelled = await send('cancelled');
    expect((await workspace.call('DELETE', `/messages/${cancelled}`)).body.status).toBe('cancelled');
    await untilStatus(expiring, 'expired');
    await flotilla.sandbox('DELETE', '/faults');
    await untilStatus(blocker, 'sent', 'delivered', 'read');
    expect(await received('expires')).toEqual([]);
    expect(await received('cancelled')).toEqual([]);
    expect(await received('waits for its connection')).toHaveLength(1);
  });
});

describe('an account that is offline', () => {
  it('blocks nobody', async () => {
    await flotilla.sandbox('PUT', '/faults', { phone: account.phoneNumber, offline: true });
    const stuck = await Promise.all(
      Array.from({ length: 40 }, (_message, number) => send(`stuck/${number}`, { priority: 'urgent' })),
    );
    const { status } = await workspace.call('POST', '/messages?wait=sent&timeoutMs=5000', {
      accountId: other.id,
      to: phone,
      text: 'passes by',
    });
    expect(status).toBe(200);
    await flotilla.sandbox('DELETE', '/faults');
    await Promise.all(stuck.map((id) => untilStatus(id, 'sent', 'delivered', 'read')));
    expect(await received('stuck/')).toHaveLength(40);
  });
});

describe('a lost ack', () => {
  it('is noticed by the watchdog: it connects again, and the message arrives once', async () => {
    await flotilla.sandbox('PUT', '/faults', { phone: account.phoneNumber, dropAckRate: 1 });
    const id = await send('its ack is lost');
    const next = await send('behind it');
    await eventually('accepted', async () => (await received('its ack is lost')).length === 1);
    await flotilla.sandbox('DELETE', '/faults');
    await untilStatus(id, 'sent', 'delivered', 'read');
    await untilStatus(next, 'sent', 'delivered', 'read');
    expect(await received('its ack is lost')).toHaveLength(1);
    expect(await received('behind it')).toHaveLength(1);
    // The browser stayed: a new connection was enough.
    const { body } = await workspace.call('GET', `/accounts/${account.id}/events`);
    expect(body.items.filter(({ reason }: { reason: string | null }) => reason === 'no_ack')).toEqual([]);
  });
});

describe('a refusal', () => {
  it('makes the message failed with the reason, and sending it again delivers it once', async () => {
    await flotilla.sandbox('PUT', '/faults', { phone: account.phoneNumber, refuseRate: 1 });
    const id = await send('refused at first');
    await untilStatus(id, 'failed');
    const failed = await message(id);
    expect(failed.error).toEqual({ code: 'whatsapp.refused', message: expect.stringContaining('ack -1') });
    expect(await received('refused at first')).toEqual([]);
    await flotilla.sandbox('DELETE', '/faults');
    const { status, body } = await workspace.call('POST', `/messages/${id}/resend`);
    expect({ status, messageStatus: body.status, error: body.error }).toEqual({
      status: 202,
      messageStatus: 'queued',
      error: null,
    });
    expect(body.whatsappId).not.toBe(failed.whatsappId);
    await untilStatus(id, 'sent', 'delivered', 'read');
    expect(await received('refused at first')).toHaveLength(1);
  });

  it('cannot be repeated for a message that arrived, for another workspace, or with a key that only reads', async () => {
    const id = await send('arrives');
    await untilStatus(id, 'delivered', 'read');
    const again = await workspace.call('POST', `/messages/${id}/resend`);
    expect([again.status, again.body.code]).toEqual([409, 'message.not_resendable']);
    const stranger = await (await flotilla.newWorkspace('other')).call('POST', `/messages/${id}/resend`);
    expect([stranger.status, stranger.body.code]).toEqual([404, 'message.not_found']);
    const viewer = await workspace.keyFor('viewer');
    const read = await flotilla.call('POST', `/messages/${id}/resend`, undefined, viewer);
    expect(read.status).toBe(403);
  });
});

describe('an Idempotency-Key', () => {
  it('sends once however often the request comes, also all at the same moment', async () => {
    const body = { accountId: account.id, to: phone, text: 'idempotent' };
    const answers = await Promise.all(
      Array.from({ length: 6 }, () => workspace.send(body, { 'idempotency-key': 'same' })),
    );
    const accepted = answers.filter(({ status }) => status === 202);
    expect(accepted.length).toBeGreaterThan(0);
    for (const { status, body: problem } of answers.filter((answer) => answer.status !== 202))
      expect([status, problem.code]).toEqual([409, 'idempotency.in_progress']);
    const first = accepted[0]!.body;
    await untilStatus(first.id, 'delivered', 'read');
    expect((await workspace.send(body, { 'idempotency-key': 'same' })).body).toEqual(first);
    const mismatch = await workspace.send({ ...body, text: 'another' }, { 'idempotency-key': 'same' });
    expect([mismatch.status, mismatch.body.code]).toEqual([422, 'idempotency.mismatch']);
    expect(await received('idempotent')).toHaveLength(1);
  });
});
