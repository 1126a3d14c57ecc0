import type { INestApplicationContext } from '@nestjs/common';
import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { PacingReservations } from '../../src/sending/pacing-reservations.js';
import { MediaService } from '../../src/media/media.service.js';
import { MediaStorageUnavailable } from '../../src/media/media-storage.js';
import { LanesService } from '../../src/sending/lanes.service.js';
import type { SendMessageDto } from '../../src/messages/messages.dto.js';
import { toMessageResponse } from '../../src/messages/messages.dto.js';
import { strictOrder } from '../../src/sending/lane-order.js';
import { MessageFiles } from '../../src/sending/message-files.js';
import { MessageSender } from '../../src/sending/message-sender.js';
import { AcceptService } from '../../src/messages/accept.service.js';
import { MessageWaits } from '../../src/messages/message-waits.js';
import { MessagesService } from '../../src/messages/messages.service.js';
import { UpdatesService } from '../../src/receiving/updates.service.js';
import { LaneRunner } from '../../src/sending/lane-runner.js';
import type { Config } from '../../src/platform/config/config.js';
import { QueuesService } from '../../src/queues/queues.service.js';
import { queuePolicies } from '../../src/queues/queue-policies.js';
import type { PageSendResult } from '../../src/whatsapp/in-page/page-functions.js';
import type { AccountDriver } from '../../src/sessions/account-driver.js';
import type { WhatsAppSession } from '../../src/whatsapp/whatsapp-session.js';
import { eventually } from '../support/eventually.js';
import { claimOf, insertAccount, insertWorkspace, ready } from '../support/factories.js';
import { fake } from '../support/fake.js';
import { filesAway, allowedChecks, noFiles, senderThat, sessionsWith } from '../support/fakes.js';
import { scratchDatabase } from '../support/scratch-database.js';
import { silent, startServices } from '../support/services.js';

let context: INestApplicationContext;
let config: Config;
let drop: () => Promise<void>;
let database: DataSource;
let accepting: AcceptService;
let messages: MessagesService;
let waits: MessageWaits;
let sending: LaneRunner;
let received: UpdatesService;
let lanes: LanesService;
let workspaceId: string;
let accountId: string;
/** A session whose page is lost in every send: the outcome of the message is unknown. */
const losesPages = senderThat(() => Promise.reject(new Error('detached frame')));

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  config = { ...scratch.config, allowedPrivateAddresses: ['127.0.0.0/8'] };
  ({ context, database } = await startServices(config));
  accepting = context.get(AcceptService);
  messages = context.get(MessagesService);
  waits = context.get(MessageWaits);
  sending = new LaneRunner(database, losesPages, new PacingReservations(database), config, silent);
  lanes = context.get(LanesService);
  received = new UpdatesService(database);
});
afterAll(async () => {
  await context?.close();
  await drop?.();
});

/** A ready account whose instance is not reachable: its sends fail without doing anything. */
beforeEach(async () => {
  workspaceId = await insertWorkspace(database);
  accountId = await insertAccount(database, workspaceId, ready);
});

function wanted(text: string, more: Partial<SendMessageDto> = {}): SendMessageDto {
  return { accountId, to: '+6281234567890', text, type: 'text', priority: 'normal', ...more };
}

const accept = async (text: string, more?: Partial<SendMessageDto>) =>
  (await accepting.accept(workspaceId, wanted(text, more))).id;

/** Sets columns of a message, as earlier attempts would have left them. */
async function become(id: string, status: string, more = ''): Promise<void> {
  await database.query(`update messages set status = $2 ${more} where id = $1`, [id, status]);
}

const policy = queuePolicies['whatsapp-normal'];
/** The answer of a page that already has the message. */
const known: PageSendResult = { outcome: 'known', ack: 1, whatsappId: 'X' };
/** The fields of media that are unknown before its file is read. */
const untouched = { sha256: null, converted: null, error: null };
const claim = () => sending.claim(accountId, 0, strictOrder);
const runLane = (by = sending) =>
  by.run(accountId, {
    epoch: 0,
    order: strictOrder,
    most: 1,
    forMs: 1_000,
    asUrgentOnly: false,
    policy,
  });

describe('an Idempotency-Key', () => {
  it('gives the first answer again, also if the message has changed and the fields have another order', async () => {
    const first = toMessageResponse(await accepting.accept(workspaceId, wanted('once'), 'key'));
    await claim();
    await received.writeAcks([{ accountId, whatsappId: first.whatsappId, ack: 2 }]);
    await database.query(`update messages set text = 'edited', edited_at = now() where id = $1`, [first.id]);
    const { to, ...rest } = wanted('once');
    const second = toMessageResponse(await accepting.accept(workspaceId, { ...rest, to }, 'key'));
    expect(second).toEqual(first);
    expect((await messages.get(workspaceId, first.id)).status).toBe('delivered');
  });

  it('is kept for at least a day, and not for ever', async () => {
    const aged = async (key: string, age: string) => {
      const { id } = await accepting.accept(workspaceId, wanted(key), key);
      await database.query(
        'update idempotency_keys set created_at = now() - $3::interval where workspace_id = $1 and key = $2',
        [workspaceId, key, age],
      );
      return id;
    };
    const [young, old] = [await aged('young', '25 hours'), await aged('old', '49 hours')];
    await accepting.forgetIdempotencyKeys();
    expect((await accepting.accept(workspaceId, wanted('young'), 'young')).id).toBe(young);
    expect((await accepting.accept(workspaceId, wanted('old'), 'old')).id).not.toBe(old);
  });

  it('is refused for another request', async () => {
    await accepting.accept(workspaceId, wanted('once'), 'key');
    await expect(accepting.accept(workspaceId, wanted('other'), 'key')).rejects.toMatchObject({
      status: 422,
      code: 'idempotency.mismatch',
    });
  });

  it('accepts one of many parallel requests; the others must wait, or get its answer', async () => {
    const outcomes = await Promise.allSettled(
      Array.from({ length: 8 }, () => accepting.accept(workspaceId, wanted('once'), 'key')),
    );
    const accepted = outcomes.filter((outcome) => outcome.status === 'fulfilled');
    const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
    expect(new Set(accepted.map(({ value }) => value.id)).size).toBe(1);
    for (const { reason } of refused)
      expect(reason).toMatchObject({ status: 409, code: 'idempotency.in_progress' });
    const [{ count }] = await database.query(
      'select count(*)::int as count from messages where account_id = $1',
      [accountId],
    );
    expect(count).toBe(1);
  });
});

describe('media', () => {
  /** A file server that runs a function before each answer. @returns its address */
  async function serving(answer: (response: ServerResponse) => Promise<void>): Promise<string> {
    server = createServer((_request, response) => {
      answer(response).catch((error: unknown) => response.destroy(error as Error));
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}/file.txt`;
  }
  let server: Server | undefined;
  afterEach(() => void server?.close());

  const data = Buffer.from(`a file ${Math.random()}`).toString('base64');
  const document = (source: object) => ({ text: undefined, type: 'document' as const, media: source });
  const stored = async () =>
    (await database.query('select from media where workspace_id = $1', [workspaceId])).length;

  it('of a message that is refused for another reason is not stored', async () => {
    const unknown = wanted('', { ...document({ data }), accountId: uuidv7() });
    await expect(accepting.accept(workspaceId, unknown)).rejects.toMatchObject({ code: 'account.not_found' });
    const late = wanted('', { ...document({ data }), expiresAt: new Date(Date.now() - 1).toISOString() });
    await expect(accepting.accept(workspaceId, late)).rejects.toMatchObject({ code: 'validation.failed' });
    expect(await stored()).toBe(0);
    await accepting.accept(workspaceId, wanted('', document({ data })));
    expect(await stored()).toBe(1);
  });

  it('that fails after the next minute has begun does not use the limit of that minute', async () => {
    await database.query('update workspaces set messages_per_minute = 5 where id = $1', [workspaceId]);
    const url = await serving(async (response) => {
      await database.query(
        `update message_rates set minute = date_trunc('minute', now()), accepted = 2 where workspace_id = $1`,
        [workspaceId],
      );
      response.writeHead(404).end();
    });
    for (const key of [undefined, 'a key']) {
      // A minute in the future, which is certainly not the current minute when the request ends.
      await database.query(
        `insert into message_rates (workspace_id, minute, accepted, granted)
         values ($1, date_trunc('minute', now()) + interval '1 day', 0, 0)
         on conflict (workspace_id) do update set minute = excluded.minute, accepted = 0`,
        [workspaceId],
      );
      const posting = accepting.accept(workspaceId, wanted('', document({ url })), key);
      await expect(posting).rejects.toMatchObject({ code: 'media.url_unavailable' });
      const [{ accepted }] = await database.query(
        'select accepted from message_rates where workspace_id = $1',
        [workspaceId],
      );
      expect(accepted).toBe(2);
    }
  });

  it('is not downloaded if the limit of messages is reached', async () => {
    let asked = 0;
    const url = await serving(async (response) => {
      asked += 1;
      response.writeHead(200).end('file');
    });
    await database.query('update workspaces set messages_per_minute = 1 where id = $1', [workspaceId]);
    await database.query(
      `insert into message_rates (workspace_id, minute, accepted, granted) values ($1, now() + interval '1 day', 1, 0)`,
      [workspaceId],
    );
    const reached = { code: 'workspace.message_limit' };
    const one = wanted('', document({ url }));
    await expect(accepting.accept(workspaceId, one, 'a key')).rejects.toMatchObject(reached);
    expect(await accepting.acceptBatch(workspaceId, [{ ...one }])).toMatchObject([{ error: reached }]);
    expect(asked).toBe(0);
  });

  it('that is deleted while a batch is accepted fails only its own message', async () => {
    const files = context.get(MediaService);
    const { id } = await files.take(workspaceId, { data });
    await database.query(`update media set last_used_at = now() - interval '1 day'`);
    const url = await serving(async (response) => {
      // Once the other message has it.
      await eventually('the other message has it', async () => {
        const used = `select from media where id = $1 and last_used_at > now() - interval '1 hour'`;
        return (await database.query(used, [id])).length === 1;
      });
      await files.delete(workspaceId, id);
      response.writeHead(200, { 'content-type': 'text/plain' }).end('another file');
    });
    const batch = [document({ mediaId: id }), document({ url }), { text: 'no media' }];
    const outcomes = await accepting.acceptBatch(
      workspaceId,
      batch.map((message) => ({ accountId, to: '+6281234567890', ...message })),
    );
    expect(outcomes).toMatchObject([
      { status: 404, error: { code: 'media.not_found' } },
      { status: 202 },
      { status: 202 },
    ]);
  });
});

describe('waiting for a message', () => {
  it('goes on while PostgreSQL does not answer: the message has been accepted', async () => {
    const accepted = await accepting.accept(workspaceId, wanted('awaited'));
    const reading = vi.spyOn(messages, 'get').mockRejectedValue(new Error('Connection terminated'));
    try {
      expect(await waits.until(accepted, 'sent', 200)).toEqual({ message: accepted, isReached: false });
      expect(reading).toHaveBeenCalled();
      const waiting = waits.until(accepted, 'sent', 10_000);
      reading.mockRestore();
      await database.query(`update messages set status = 'sent' where id = $1`, [accepted.id]);
      expect(await waiting).toMatchObject({ message: { status: 'sent' }, isReached: true });
    } finally {
      reading.mockRestore();
    }
  });

  it('is over when PostgreSQL notifies, before anybody looks; also after a repetition of an earlier request', async () => {
    const looking = vi.spyOn(waits as unknown as { look(): Promise<void> }, 'look').mockResolvedValue();
    const leave = waits.enter(workspaceId);
    try {
      const first = await accepting.accept(workspaceId, wanted('notified'), undefined, 'sent');
      await accepting.accept(workspaceId, wanted('repeated'), 'repeated');
      const second = await accepting.accept(workspaceId, wanted('repeated'), 'repeated', 'delivered');
      // `missed` is called once the process listens.
      await eventually('it listens', () => looking.mock.calls.length > 0);
      const waiting = [waits.until(first, 'sent', 60_000), waits.until(second, 'delivered', 60_000)];
      await database.query(`update messages set status = 'sent' where id = any($1)`, [[first.id, second.id]]);
      expect(await waiting[0]).toMatchObject({ message: { status: 'sent' }, isReached: true });
      await database.query(`update messages set status = 'delivered' where id = $1`, [second.id]);
      expect(await waiting[1]).toMatchObject({ message: { status: 'delivered' }, isReached: true });
    } finally {
      leave();
      looking.mockRestore();
    }
  });

  it('misses no change before it begins, nor a change whose notification is lost', async () => {
    const early = await accepting.accept(workspaceId, wanted('early'), undefined, 'sent');
    await database.query(`update messages set status = 'sent' where id = $1`, [early.id]);
    expect(await waits.until(early, 'sent', 60_000)).toMatchObject({ isReached: true });
    // Nobody is notified of a message that is not marked.
    const lost = await accepting.accept(workspaceId, wanted('lost'));
    const waiting = waits.until(lost, 'sent', 60_000);
    await database.query(`update messages set status = 'failed' where id = $1`, [lost.id]);
    expect(await waiting).toMatchObject({ message: { status: 'failed' }, isReached: false });
  });
});

describe('sending again', () => {
  it('a failed message takes a new WhatsApp id', async () => {
    const id = await accept('refused');
    const { whatsappId } = await messages.get(workspaceId, id);
    await claim();
    await received.writeAcks([{ accountId, whatsappId, ack: -1 }]);
    const again = await accepting.resend(workspaceId, id);
    expect(again).toMatchObject({ status: 'queued', errorCode: null, failedAt: null, attempts: 0 });
    expect(again.whatsappId).not.toBe(whatsappId);
    expect((await claim())?.attempt).toBe(1);
    // Later acks of the first id change nothing.
    await received.writeAcks([{ accountId, whatsappId, ack: 1 }]);
    expect((await messages.get(workspaceId, id)).status).toBe('sending');
  });

  it('an unknown message keeps its id, is looked up before it is sent, and cannot be cancelled', async () => {
    const id = await accept('unknown');
    await become(id, 'unknown', `, attempts = 8, error_code = 'whatsapp.pending'`);
    const { whatsappId } = await messages.get(workspaceId, id);
    const again = await accepting.resend(workspaceId, id);
    expect(again).toMatchObject({ status: 'queued', whatsappId, errorCode: null });
    await expect(messages.cancel(workspaceId, id)).rejects.toMatchObject({
      code: 'message.already_sending',
    });
    expect((await claim())?.attempt).toBe(2);
  });

  it('an unknown message is not sent again if an ack arrives while it waits', async () => {
    const id = await accept('arrived');
    await become(id, 'unknown');
    await accepting.resend(workspaceId, id);
    const { whatsappId } = await messages.get(workspaceId, id);
    await received.writeAcks([{ accountId, whatsappId, ack: 1 }]);
    expect((await messages.get(workspaceId, id)).status).toBe('sent');
    expect(await claim()).toBeNull();
  });

  it.each(['queued', 'sending', 'sent', 'read', 'cancelled', 'expired'])(
    'is refused when %s',
    async (status) => {
      const id = await accept('no');
      await become(id, status);
      await expect(accepting.resend(workspaceId, id)).rejects.toMatchObject({
        status: 409,
        code: 'message.not_resendable',
      });
      expect((await messages.get(workspaceId, id)).status).toBe(status);
    },
  );

  it('happens once for two parallel requests', async () => {
    const id = await accept('twice');
    await become(id, 'failed');
    const outcomes = await Promise.allSettled([
      accepting.resend(workspaceId, id),
      accepting.resend(workspaceId, id),
    ]);
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect((await messages.get(workspaceId, id)).resends).toBe(1);
  });
});

describe('a message with an unknown outcome', () => {
  /** Lets the last attempt of a message end without an answer. */
  async function exhaust(id: string): Promise<string> {
    const { attempts } = policy;
    await become(
      id,
      'sending',
      `, attempts = ${attempts - 1}, next_attempt_at = now() - interval '1 second'`,
    );
    await runLane();
    return (await messages.get(workspaceId, id)).status;
  }

  it('stays unknown by default, makes an event, and its lane continues', async () => {
    const id = await accept('held');
    const next = await accept('next');
    expect(await exhaust(id)).toBe('unknown');
    const told = await database.query(
      `select type, data->>'status' as status from events where data->>'id' = $1 order by id desc limit 1`,
      [id],
    );
    expect(told).toEqual([{ type: 'message.unknown', status: 'unknown' }]);
    expect((await claim())?.id).toBe(next);
  });

  it('is sent again later under its id if the policy says so, a limited number of times', async () => {
    await database.query(`update workspaces set unknown_policy = 'resend' where id = $1`, [workspaceId]);
    const wanted = {
      accountId,
      to: '+6281234567890',
      type: 'text',
      text: 'resent',
      priority: 'normal',
    } as const;
    const accepted = { ...(await accepting.accept(workspaceId, wanted, 'resent')) };
    const { id, whatsappId } = accepted;
    const repeated = () => accepting.accept(workspaceId, wanted, 'resent');
    expect(await exhaust(id)).toBe('scheduled');
    expect(await repeated()).toMatchObject({ status: 'queued', scheduledFor: null });
    const again = await messages.get(workspaceId, id);
    expect(again).toMatchObject({ whatsappId, resends: 1 });
    expect(again.scheduledFor!.getTime()).toBeGreaterThan(Date.now() + 50_000);
    await database.query('update messages set scheduled_for = now() where id = $1', [id]);
    while (await lanes.promote());
    expect(await messages.get(workspaceId, id)).toMatchObject({ status: 'queued', scheduledFor: null });
    expect(await repeated()).toMatchObject({ status: 'queued', scheduledFor: null });
    await become(id, 'sending', ', resends = 5');
    expect(await exhaust(id)).toBe('unknown');
  });
});

describe('a storage that is away', () => {
  const media = { mediaId: uuidv7(), mimetype: 'image/png', size: 1, filename: null, ...untouched };
  const session = (send: WhatsAppSession['send']) => {
    const restart = vi.fn<AccountDriver['restart']>();
    return { restart, sessions: sessionsWith({ send }, { restart }) };
  };
  const comes = (id: string) =>
    database.query(`update messages set next_attempt_at = now() where id = $1`, [id]);

  it('leaves an untried message queued, however long it takes; more urgent messages are sent', async () => {
    const away = senderThat(({ text }) =>
      text === 'urgent'
        ? Promise.resolve({ ack: 1 })
        : Promise.reject(new MediaStorageUnavailable(new Error('away'))),
    );
    const patient = new LaneRunner(database, away, new PacingReservations(database), config, silent);
    const id = await accept('its caption');
    const [behind, urgent] = [await accept('behind it'), await accept('urgent', { priority: 'urgent' })];
    await become(urgent, 'scheduled', `, scheduled_for = 'infinity'`);
    const pauses: number[] = [];
    for (let tries = 0; tries < policy.attempts + 2; tries += 1) {
      await comes(id);
      await runLane(patient);
      const { status, attempts, nextAttemptAt } = await messages.get(workspaceId, id);
      expect({ status, attempts }).toEqual({ status: 'queued', attempts: 0 });
      pauses.push(nextAttemptAt.getTime() - Date.now());
    }
    expect(pauses[0]).toBeLessThanOrEqual(600);
    expect(pauses.at(-1)).toBeGreaterThan(20_000);
    await become(urgent, 'queued');
    await runLane(patient);
    expect((await messages.get(workspaceId, urgent)).status).toBe('sent');
    expect(await claim()).toBeNull();
    expect((await messages.get(workspaceId, behind)).status).toBe('queued');
    // The message certainly did not leave, so it can be cancelled.
    expect((await messages.cancel(workspaceId, id)).status).toBe('cancelled');
  });

  it('does not hold a message for ever that may have left, because its lane waits for it', async () => {
    const { sessions } = session(async () => ({ outcome: 'absent' }));
    const sender = new MessageSender(sessions, filesAway, config, silent, allowedChecks);
    const patient = new LaneRunner(database, sender, new PacingReservations(database), config, silent);
    const id = await accept('its caption');
    await become(id, 'sending', `, type = 'image', media = '${JSON.stringify(media)}', attempts = 1`);
    for (let attempts = 2; attempts < policy.attempts; attempts += 1) {
      await comes(id);
      await runLane(patient);
      expect(await messages.get(workspaceId, id)).toMatchObject({ status: 'sending', attempts });
    }
    await comes(id);
    await runLane(patient);
    expect(await messages.get(workspaceId, id)).toMatchObject({
      status: 'unknown',
      errorCode: 'media.storage_unavailable',
    });
  });

  it('is not assumed if only one file cannot be read: that message fails, and the next is sent', async () => {
    const copies: string[] = [];
    const store = fake<MediaService>({
      copyTo: async (mediaId) => {
        if (mediaId === media.mediaId) throw new MediaStorageUnavailable(new Error('AccessDenied'));
        copies.push(String(mediaId));
      },
    });
    const files = new MessageFiles(store, config);
    const { restart, sessions } = session(async ({ content }) =>
      'file' in content || 'text' in content ? known : { outcome: 'absent' },
    );
    const sender = new MessageSender(sessions, files, config, silent, allowedChecks);
    const patient = new LaneRunner(database, sender, new PacingReservations(database), config, silent);
    const [id, behind] = [await accept('unreadable'), await accept('behind it')];
    await become(id, 'queued', `, type = 'image', media = '${JSON.stringify(media)}'`);
    const tries = async (count: number) => {
      for (let tries = 0; tries < count; tries += 1) {
        await comes(id);
        await runLane(patient);
      }
    };
    await tries(10);
    expect((await messages.get(workspaceId, id)).status).toBe('queued');
    for (let times = 0; times < 5; times += 1) {
      await files.copyOf('another', { ...media, mediaId: uuidv7() });
      await tries(1);
    }
    expect(copies).toHaveLength(5);
    expect(await messages.get(workspaceId, id)).toMatchObject({
      status: 'failed',
      errorCode: 'media.unreadable',
    });
    expect(restart).not.toHaveBeenCalled();
    expect((await messages.get(workspaceId, behind)).status).toBe('queued');
    await runLane(patient);
    expect((await messages.get(workspaceId, behind)).status).toBe('sent');
  });

  it('restarts no browser if the file cannot be written on this machine', async () => {
    const files = context.get(MediaService);
    const { id: mediaId } = await files.take(workspaceId, { data: Buffer.from('a file').toString('base64') });
    const { restart, sessions } = session(async () => ({ outcome: 'absent' }));
    // The directory of the file does not exist.
    const nowhere = new MessageFiles(files, { ...config, varDir: '/nowhere' });
    const sender = new MessageSender(sessions, nowhere, config, silent, allowedChecks);
    const sending = sender.send(claimOf({ attempt: 2, media: { ...media, mediaId }, type: 'image' }));
    await expect(sending).rejects.toMatchObject({ code: 'media.storage_unavailable' });
    expect(restart).not.toHaveBeenCalled();
  });
});

describe('a message that kills its instance at each attempt', () => {
  it.each([
    ['absent', { status: 'unknown', errorCode: 'send.interrupted' }],
    ['known', { status: 'sent', errorCode: null }],
  ] as const)('is only looked for when it was tried often enough (%s)', async (outcome, end) => {
    const looks: object[] = [];
    const sessions = sessionsWith({
      send: async ({ lookOnly, mayResend }) => {
        looks.push({ lookOnly, mayResend });
        return outcome === 'known' ? known : { outcome };
      },
    });
    const sender = new MessageSender(sessions, noFiles, config, silent, allowedChecks);
    const survivor = new LaneRunner(database, sender, new PacingReservations(database), config, silent);
    await database.query(`update workspaces set unknown_policy = 'resend' where id = $1`, [workspaceId]);
    const [id, behind] = [await accept('deadly'), await accept('behind it')];
    for (let attempt = 1; attempt <= policy.attempts; attempt += 1) {
      expect(await claim()).toMatchObject({ id, attempt });
      await database.query('update messages set next_attempt_at = now() where id = $1', [id]);
    }
    await runLane(survivor);
    expect(looks).toEqual([{ lookOnly: true, mayResend: false }]);
    expect(await messages.get(workspaceId, id)).toMatchObject(end);
    expect((await claim())?.id).toBe(behind);
  });
});

it('a message that WhatsApp refuses is failed at once, and is not tried again', async () => {
  const send = async (): Promise<PageSendResult> => ({ outcome: 'known', ack: -1, whatsappId: 'X' });
  const sender = new MessageSender(sessionsWith({ send }), noFiles, config, silent, allowedChecks);
  const runner = new LaneRunner(database, sender, new PacingReservations(database), config, silent);
  const id = await accept('refused');
  await runLane(runner);
  expect(await messages.get(workspaceId, id)).toMatchObject({
    status: 'failed',
    errorCode: 'whatsapp.refused',
    attempts: 1,
  });
  expect(await claim()).toBeNull();
});

it.each([
  ['pending', 'whatsapp.pending'],
  ['timed_out', 'whatsapp.no_answer'],
] as const)(
  'a message without an ack (%s) reconnects the page once, and then each try restarts its browser',
  async (outcome, errorCode) => {
    const recoveries: string[] = [];
    const sender = new MessageSender(
      sessionsWith(
        { send: async () => ({ outcome }), reconnect: async () => void recoveries.push('reconnect') },
        { restart: (reason) => void recoveries.push(`restart: ${reason}`) },
      ),
      noFiles,
      config,
      silent,
      allowedChecks,
    );
    const runner = new LaneRunner(database, sender, new PacingReservations(database), config, silent);
    const id = await accept('no ack');
    for (let attempt = 1; attempt <= policy.attempts; attempt += 1) {
      await database.query('update messages set next_attempt_at = now() where id = $1', [id]);
      await runLane(runner);
    }
    const restarts = Array<string>(policy.attempts - 1).fill('restart: no_ack');
    expect(recoveries).toEqual(['reconnect', ...restarts]);
    expect(await messages.get(workspaceId, id)).toMatchObject({ status: 'unknown', errorCode });
  },
);

describe('a message that the page has, and gave up', () => {
  const restart = vi.fn<AccountDriver['restart']>();
  const reconnect = vi.fn<WhatsAppSession['reconnect']>();
  beforeEach(() => {
    restart.mockClear();
    reconnect.mockClear();
  });

  it('is tried again, holds its lane, and is unknown after the last try; its page is restarted once', async () => {
    const asked: unknown[] = [];
    const send: WhatsAppSession['send'] = async ({ mayResend, searchStorage }) => {
      asked.push({ mayResend, searchStorage });
      return { outcome: 'unsent' };
    };
    const sender = new MessageSender(
      sessionsWith({ send, reconnect }, { restart }),
      noFiles,
      config,
      silent,
      allowedChecks,
    );
    const runner = new LaneRunner(database, sender, new PacingReservations(database), config, silent);
    const id = await accept('given up');
    await runLane(runner);
    expect(restart).not.toHaveBeenCalled();
    for (let attempt = 2; attempt <= policy.attempts; attempt += 1) {
      expect((await messages.get(workspaceId, id)).status).toBe('sending');
      await database.query('update messages set next_attempt_at = now() where id = $1', [id]);
      await runLane(runner);
    }
    const { status, errorCode } = await messages.get(workspaceId, id);
    expect({ status, errorCode }).toEqual({ status: 'unknown', errorCode: 'whatsapp.given_up' });
    expect(asked).toHaveLength(policy.attempts);
    expect(asked[1]).toEqual({ mayResend: true, searchStorage: true });
    expect(restart).toHaveBeenCalledOnce();
    // Its connection works: WhatsApp answered nothing for this message only.
    expect(reconnect).not.toHaveBeenCalled();
  });

  it('is finished also after its deadline, because it may have left before', async () => {
    const asked: unknown[] = [];
    const send: WhatsAppSession['send'] = async ({ lookOnly, mayResend }) => {
      asked.push({ lookOnly, mayResend });
      return { outcome: 'unsent' };
    };
    const sender = new MessageSender(
      sessionsWith({ send, reconnect }, { restart }),
      noFiles,
      config,
      silent,
      allowedChecks,
    );
    const sending = sender.send(claimOf({ attempt: 3, isExpired: true }));
    await expect(sending).rejects.toMatchObject({ code: 'whatsapp.given_up' });
    expect(asked).toEqual([{ lookOnly: true, mayResend: true }]);
    expect(restart).not.toHaveBeenCalled();
  });
});

it('a resent message is sent, also by a worker that allows only one attempt', async () => {
  const sessions = sessionsWith({ send: async ({ lookOnly }) => (lookOnly ? { outcome: 'absent' } : known) });
  const sender = new MessageSender(sessions, noFiles, config, silent, allowedChecks);
  const once = new LaneRunner(database, sender, new PacingReservations(database), config, silent);
  const id = await accept('again');
  await become(id, 'unknown', ', attempts = 1');
  await accepting.resend(workspaceId, id);
  const run = { epoch: 0, order: strictOrder, most: 1, forMs: 1_000, asUrgentOnly: false };
  await once.run(accountId, { ...run, policy: { ...policy, attempts: 1 } });
  expect(await messages.get(workspaceId, id)).toMatchObject({ status: 'sent', errorCode: null });
});

describe('a page that cannot send a message', () => {
  const restart = vi.fn<AccountDriver['restart']>();
  const reconnect = vi.fn<WhatsAppSession['reconnect']>();
  /** A session whose page fails with every message that is not urgent. */
  const failing = () => {
    const send: WhatsAppSession['send'] = async ({ content, lookOnly }) => {
      if ('text' in content && content.text === 'urgent') return known;
      return lookOnly ? { outcome: 'absent' } : { outcome: 'not_sent', detail: 'Error: No LID for user' };
    };
    const sender = new MessageSender(
      sessionsWith({ send, reconnect }, { restart }),
      noFiles,
      config,
      silent,
      allowedChecks,
    );
    return new LaneRunner(database, sender, new PacingReservations(database), config, silent);
  };
  const comes = (id: string) =>
    database.query(`update messages set next_attempt_at = now() where id = $1`, [id]);
  const found = async (id: string) => {
    const { status, errorCode, attempts } = await messages.get(workspaceId, id);
    return { status, errorCode, attempts };
  };
  afterEach(() => {
    expect(restart).not.toHaveBeenCalled();
    expect(reconnect).not.toHaveBeenCalled();
  });
  const toItsEnd = async (fails: LaneRunner, id: string, tries: number) => {
    for (let number = 0; number < tries; number += 1) {
      await comes(id);
      await runLane(fails);
    }
    expect((await found(id)).status).toBe('failed');
  };

  it('gets a browser restart if the next message fails too, and no second restart soon after', async () => {
    const fails = failing();
    const ids = [await accept('one'), await accept('two'), await accept('three'), await accept('four')];
    await toItsEnd(fails, ids[0]!, 5);
    expect(restart).not.toHaveBeenCalled();
    await comes(ids[1]!);
    await runLane(fails);
    expect(restart.mock.calls).toEqual([['not_sent']]);
    await toItsEnd(fails, ids[1]!, 4);
    await accept('urgent', { priority: 'urgent' });
    await runLane(fails);
    for (const id of ids.slice(2)) await toItsEnd(fails, id, 5);
    expect(restart).toHaveBeenCalledOnce();
    restart.mockClear();
  });

  it('keeps its browser if it sends other messages meanwhile', async () => {
    const fails = failing();
    await toItsEnd(fails, await accept('one'), 5);
    await accept('urgent', { priority: 'urgent' });
    await runLane(fails);
    await toItsEnd(fails, await accept('two'), 5);
  });

  it('fails the message after five attempts with the reason, and holds back no more urgent message', async () => {
    const fails = failing();
    const [id, behind] = [await accept('cannot be sent'), await accept('behind it')];
    for (let tries = 1; tries < 5; tries += 1) {
      await comes(id);
      await runLane(fails);
      expect(await found(id)).toEqual({ status: 'queued', errorCode: null, attempts: 0 });
    }
    const urgent = await accept('urgent', { priority: 'urgent' });
    await runLane(fails);
    expect((await found(urgent)).status).toBe('sent');
    expect(await claim()).toBeNull();
    await comes(id);
    await runLane(fails);
    expect(await messages.get(workspaceId, id)).toMatchObject({
      status: 'failed',
      errorCode: 'whatsapp.not_sent',
      errorMessage: 'WhatsApp Web could not send the message: Error: No LID for user',
    });
    expect((await claim())?.id).toBe(behind);
  });

  it('says nothing about an earlier attempt: the outcome stays unknown', async () => {
    const fails = failing();
    const id = await accept('may have left');
    await become(id, 'sending', ', attempts = 1');
    for (let attempts = 2; attempts < policy.attempts; attempts += 1) {
      await comes(id);
      await runLane(fails);
      expect(await found(id)).toEqual({ status: 'sending', errorCode: null, attempts });
    }
    await comes(id);
    await runLane(fails);
    expect(await found(id)).toMatchObject({ status: 'unknown', errorCode: 'whatsapp.not_sent' });
    // Its lane waits for the message, so no second message can show whether the page is broken.
    expect(restart.mock.calls).toEqual([['not_sent']]);
    restart.mockClear();
  });
});

describe('a page that hangs', () => {
  it('does not keep a worker waiting, and its late answer is written', async () => {
    let answer = (_: { ack: number }): void => undefined;
    const hangs = senderThat(() => new Promise((resolve) => (answer = resolve)));
    const patient = new LaneRunner(database, hangs, new PacingReservations(database), config, silent);
    const [id, behind] = [await accept('hangs'), await accept('behind it')];
    const run = { epoch: 0, order: strictOrder, most: 25, forMs: 50, asUrgentOnly: false, policy };
    expect(await patient.run(accountId, run)).toEqual({ ended: 0, head: null, isUnclaimed: false });
    expect((await messages.get(workspaceId, id)).status).toBe('sending');
    answer({ ack: 1 });
    await patient.settled();
    expect((await messages.get(workspaceId, id)).status).toBe('sent');
    expect((await messages.get(workspaceId, behind)).status).toBe('queued');
  });
});

describe('time', () => {
  it('queues due messages, leaves later ones, and expires late ones', async () => {
    const later = new Date(Date.now() + 3_600_000).toISOString();
    const due = await accept('due', { sendAt: later });
    const waits = await accept('waits', { sendAt: later });
    const late = await accept('late', {
      sendAt: later,
      expiresAt: new Date(Date.now() + 7_200_000).toISOString(),
    });
    await database.query(`update messages set scheduled_for = now() where id = $1`, [due]);
    await database.query(`update messages set expires_at = now() where id = $1`, [late]);
    while (await lanes.promote());
    const statuses = await Promise.all([due, waits, late].map((id) => messages.get(workspaceId, id)));
    expect(statuses.map(({ status }) => status)).toEqual(['queued', 'scheduled', 'expired']);
  });

  it('retries an attempt without answer after growing, jittered pauses', async () => {
    const pauses: number[] = [];
    for (let number = 0; number < 6; number += 1) {
      const id = await accept(`${number}`);
      await runLane();
      const { nextAttemptAt, status } = await messages.get(workspaceId, id);
      expect(status).toBe('sending');
      pauses.push(nextAttemptAt.getTime() - Date.now());
      await become(id, 'cancelled');
    }
    expect(Math.max(...pauses)).toBeLessThanOrEqual(600);
    expect(new Set(pauses.map((pause) => Math.round(pause / 5))).size).toBeGreaterThan(1);
  });
});

describe('an uncertain attempt', () => {
  it('is retried in the most urgent queue, because its whole lane waits for it', async () => {
    const id = await accept('in doubt');
    await runLane();
    await accept('behind it', { priority: 'urgent' });
    await database.query(`update messages set next_attempt_at = now() - interval '1 second' where id = $1`, [
      id,
    ]);
    const urgent = context.get(QueuesService).queue('whatsapp-urgent');
    await lanes.sweep();
    expect((await urgent.getJob(`message-${id}`))?.data).toEqual({ id });
  });

  it.each(['known', 'absent'] as const)(
    'of a message with media is looked up before its file is copied (%s)',
    async (outcome) => {
      const asked: object[] = [];
      const send: WhatsAppSession['send'] = async ({ lookOnly, mayResend, content }) => {
        asked.push({ lookOnly, mayResend, hasFile: 'file' in content });
        return outcome === 'known' ? known : { outcome };
      };
      const restart = vi.fn<AccountDriver['restart']>();
      const sender = new MessageSender(
        sessionsWith({ send }, { restart }),
        filesAway,
        config,
        silent,
        allowedChecks,
      );
      const media = { mediaId: uuidv7(), mimetype: 'image/png', size: 1, filename: null, ...untouched };
      const sending = sender.send(claimOf({ attempt: 2, media, type: 'image' }));
      if (outcome === 'known') expect(await sending).toEqual({ ack: 1 });
      else await expect(sending).rejects.toMatchObject({ code: 'media.storage_unavailable' });
      // The page sends what it has without the file.
      expect(asked).toEqual([{ lookOnly: true, mayResend: true, hasFile: false }]);
      // The page is not to blame for the storage.
      expect(restart).not.toHaveBeenCalled();
    },
  );

  it('of an expired message is only looked up', async () => {
    const id = await accept('late', { expiresAt: new Date(Date.now() + 60_000).toISOString() });
    await runLane();
    await database.query(
      `update messages set next_attempt_at = now() - interval '1 second', expires_at = now() where id = $1`,
      [id],
    );
    expect(await claim()).toMatchObject({ id, attempt: 2, isExpired: true });
  });

  it('makes its message unknown, not expired, if it expires while it waits to be sent again', async () => {
    const id = await accept('late', { expiresAt: new Date(Date.now() + 60_000).toISOString() });
    await become(
      id,
      'scheduled',
      ", attempts = 1, scheduled_for = now() + interval '1 minute', expires_at = now()",
    );
    while (await lanes.promote());
    expect((await messages.get(workspaceId, id)).status).toBe('unknown');
  });
});
