import { randomBytes } from 'node:crypto';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  SessionSnapshots,
  SnapshotSchedule,
  SnapshotUnusable,
} from '../../src/sessions/session-snapshots.js';
import type { Config } from '../../src/platform/config/config.js';
import { dataSourceOptions } from '../../src/platform/database/data-source.js';
import { createLogger } from '../../src/platform/logging/logger.js';
import { ProfileTooLarge, profileEpoch } from '../../src/whatsapp/browser/archive.js';
import { OutcomeFinder } from '../../src/receiving/outcome-finder.js';
import { UpdatesService } from '../../src/receiving/updates.service.js';
import type { SessionMessages } from '../../src/whatsapp/session-messages.js';
import {
  insertAccount,
  insertInstance,
  insertRow,
  insertServer,
  insertWorkspace,
} from '../support/factories.js';
import { eventually } from '../support/eventually.js';
import { fake } from '../support/fake.js';
import { sessionsWith } from '../support/fakes.js';
import { scratchDatabase } from '../support/scratch-database.js';

let config: Config;
let drop: () => Promise<void>;
let database: DataSource;
let root: string;
let workspaceId: string;
let accountId: string;

beforeAll(async () => {
  const scratch = await scratchDatabase();
  ({ config, drop } = scratch);
  database = new DataSource(dataSourceOptions(config));
  await database.initialize();
  for (const id of ['server-a', 'server-b']) {
    await insertServer(database, id);
    await insertInstance(database, `${id}.instance_00`);
  }
});
afterAll(async () => {
  await database?.destroy();
  await drop?.();
});

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'snapshots-'));
  workspaceId = await insertWorkspace(database);
  accountId = await newAccount();
});
afterEach(() => rm(root, { recursive: true, force: true }));

const newAccount = () => insertAccount(database, workspaceId);

/** A server with its own sessions directory and one instance. */
class Server {
  readonly snapshots: SessionSnapshots;

  constructor(
    readonly id: string,
    settings: { appKey?: string; sessions?: Partial<Config['sessions']> } = {},
  ) {
    const sessions = { ...config.sessions, store: 'postgres' as const, dir: join(root, id) };
    this.snapshots = new SessionSnapshots(
      {
        ...config,
        appKey: settings.appKey ?? config.appKey,
        instance: { ...config.instance, id: `${id}.instance_00` },
        sessions: { ...sessions, ...settings.sessions },
      },
      database,
      createLogger('test', 'silent'),
    );
  }

  path(name: string, id = accountId): string {
    return join(root, this.id, `session-${id}`, name);
  }

  /** Gets the account, as the balancer and the claim of the instance do. */
  async takesOver(id = accountId): Promise<{ id: string; epoch: number }> {
    await database.query(
      `update accounts set instance_id = $2, held_by = $2, epoch = epoch + 1 where id = $1`,
      [id, `${this.id}.instance_00`],
    );
    const [account] = await database.query<[{ id: string; epoch: number }]>(
      'select id, epoch from accounts where id = $1',
      [id],
    );
    return account;
  }

  async writes(content: string | Buffer, id = accountId): Promise<void> {
    const path = this.path('Default/IndexedDB/keys', id);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
  }

  async content(): Promise<string> {
    return readFile(this.path('Default/IndexedDB/keys'), 'utf8');
  }

  async epoch(): Promise<number | null> {
    return profileEpoch(this.path(''));
  }
}

const stored = async (id = accountId) =>
  (await database.query('select * from session_snapshots where account_id = $1', [id]))[0];

async function untilSomebodyWaits(): Promise<void> {
  await eventually('a statement that waits for a lock', async () => {
    const [{ waiting }] = await database.query<[{ waiting: number }]>(
      `select count(*)::int as waiting from pg_stat_activity
       where datname = current_database() and wait_event_type = 'Lock'`,
    );
    return waiting > 0;
  });
}

/** Server A has linked the account and taken a snapshot of it. */
async function linkedOn(server: Server, content: string | Buffer = 'linked'): Promise<{ epoch: number }> {
  const account = await server.takesOver();
  expect(await server.snapshots.prepare(account)).toBe('new');
  await server.writes(content);
  expect(await server.snapshots.save(account, true)).toBe(true);
  return account;
}

describe('moving between servers', () => {
  it('takes the session along, there and back', async () => {
    const [a, b] = [new Server('server-a'), new Server('server-b')];
    await linkedOn(a);

    const onB = await b.takesOver();
    expect(await b.snapshots.prepare(onB)).toBe('restored');
    expect(await b.content()).toBe('linked');
    expect(await b.epoch()).toBe(onB.epoch);
    await b.writes('used on b');
    expect(await b.snapshots.save(onB, false)).toBe(true);

    const onA = await a.takesOver();
    expect(await a.snapshots.prepare(onA)).toBe('restored');
    expect(await a.content()).toBe('used on b');
    expect(await a.epoch()).toBe(onA.epoch);
  });

  it('restores a session that is read in several chunks', async () => {
    const [a, b] = [new Server('server-a'), new Server('server-b')];
    const content = randomBytes(9_000_000);
    await linkedOn(a, content);
    expect(await b.snapshots.prepare(await b.takesOver())).toBe('restored');
    expect(content.equals(await readFile(b.path('Default/IndexedDB/keys')))).toBe(true);
  });

  it('keeps a local profile that was driven under the epoch of the snapshot or a later one', async () => {
    const [a, b] = [new Server('server-a'), new Server('server-b')];
    await linkedOn(a);
    await a.writes('newer than the snapshot');
    // B never took a snapshot.
    await b.takesOver();
    expect(await a.snapshots.prepare(await a.takesOver())).toBe('local');
    expect(await a.snapshots.prepare(await a.takesOver())).toBe('local');
    expect(await a.content()).toBe('newer than the snapshot');
  });

  it('prefers a snapshot to a profile without a mark, and to an empty one', async () => {
    const [a, b] = [new Server('server-a'), new Server('server-b')];
    await linkedOn(a);
    await b.writes('from before there were snapshots');
    expect(await b.snapshots.prepare(await b.takesOver())).toBe('restored');
    expect(await b.content()).toBe('linked');

    await rm(b.path('Default'), { recursive: true });
    expect(await b.snapshots.prepare(await b.takesOver())).toBe('restored');
    expect(await b.content()).toBe('linked');
  });

  it('keeps a profile without a mark if there is no snapshot', async () => {
    const a = new Server('server-a');
    await a.writes('from before there were snapshots');
    const account = await a.takesOver();
    expect(await a.snapshots.prepare(account)).toBe('local');
    expect(await a.content()).toBe('from before there were snapshots');
    expect(await a.epoch()).toBe(account.epoch);
  });

  it('puts back the local profile that a crash had left renamed', async () => {
    const a = new Server('server-a');
    await a.writes('linked');
    await cp(a.path(''), join(root, `server-a/session-${accountId}.replaced`), { recursive: true });
    await rm(a.path(''), { recursive: true });
    expect(await a.snapshots.prepare(await a.takesOver())).toBe('local');
    expect(await a.content()).toBe('linked');
    expect(await readdir(join(root, 'server-a'))).toEqual([`session-${accountId}`]);
  });
});

describe('messages that a restored session does not know', () => {
  /** @param age how long ago it was sent, for example '1 minute' */
  const sent = async (text: string, age: string, status = 'sent') => {
    const id = uuidv7();
    await insertRow(database, 'messages', {
      id,
      workspace_id: workspaceId,
      account_id: accountId,
      direction: 'outgoing',
      type: 'text',
      chat_id: '6281234567890@c.us',
      recipient: '6281234567890',
      text,
      status,
      whatsapp_id: text,
    });
    await database.query('update messages set sent_at = now() - $2::interval where id = $1', [id, age]);
  };
  const inQuestion = async () =>
    (
      await database.query<{ text: string }[]>(
        'select text from messages where account_id = $1 and in_question_since is not null order by 1',
        [accountId],
      )
    ).map(({ text }) => text);

  it('are in question until they are delivered, if they were sent after the snapshot was taken', async () => {
    const [a, b] = [new Server('server-a'), new Server('server-b')];
    const updates = new UpdatesService(database);
    let asked: string[] = [];
    const acksOf: SessionMessages['acksOf'] = async (messages) => {
      asked = messages.map(({ whatsappId }) => whatsappId);
      return [];
    };
    // What an instance does when the session is ready.
    const sessions = sessionsWith({ messages: fake<SessionMessages>({ acksOf }) });
    const becomesReady = () => new OutcomeFinder(sessions, updates).find(accountId);
    await linkedOn(a);
    await database.query(
      `update session_snapshots set taken_at = now() - interval '10 minutes' where account_id = $1`,
      [accountId],
    );
    await sent('in the snapshot', '11 minutes');
    await sent('after it', '5 minutes');
    await sent('after it, in question for good', '4 minutes');
    await sent('after it and delivered', '3 minutes', 'delivered');
    await becomesReady();
    expect(await inQuestion()).toEqual([]);

    expect(await b.snapshots.prepare(await b.takesOver())).toBe('restored');
    await sent('by the restored session', '-1 minutes');
    await becomesReady();
    expect(await inQuestion()).toEqual(['after it', 'after it, in question for good']);
    // Their acks are asked for.
    expect(asked).toEqual(expect.arrayContaining(['after it', 'after it, in question for good']));

    await updates.writeAcks([{ accountId, whatsappId: 'after it', ack: 2 }]);
    await becomesReady();
    expect(await inQuestion()).toEqual(['after it, in question for good']);
  });

  it('do not exist if the session was saved after it ended', async () => {
    const [a, b] = [new Server('server-a'), new Server('server-b')];
    const { epoch } = await linkedOn(a);
    await sent('before the end', '1 second');
    await a.writes('used since');
    expect(await a.snapshots.save({ id: accountId, epoch }, false)).toBe(true);
    expect(await b.snapshots.prepare(await b.takesOver())).toBe('restored');
    await new UpdatesService(database).questionSent(accountId);
    expect(await inQuestion()).toEqual([]);
  });

  it('are forgotten by the next snapshot, which has a time of its own', async () => {
    const [a, b] = [new Server('server-a'), new Server('server-b')];
    await linkedOn(a);
    const account = await b.takesOver();
    expect(await b.snapshots.prepare(account)).toBe('restored');
    expect((await stored()).restored_at).not.toBeNull();
    await b.writes('used on b');
    const [{ before }] = await database.query('select now() as before');
    expect(await b.snapshots.save(account, true)).toBe(true);
    const [{ after }] = await database.query('select now() as after');
    const { restored_at: restoredAt, taken_at: takenAt } = await stored();
    expect(restoredAt).toBeNull();
    expect(takenAt.getTime()).toBeGreaterThanOrEqual(before.getTime());
    expect(takenAt.getTime()).toBeLessThan(after.getTime());
  });
});

describe('saving', () => {
  it('writes a snapshot only after a change, encrypted and without caches', async () => {
    const a = new Server('server-a');
    const account = await linkedOn(a, 'the secret of the account');
    const { data, size_bytes: size, epoch } = await stored();
    expect(data.includes('the secret')).toBe(false);
    expect([Number(size), epoch]).toEqual([data.length, account.epoch]);

    expect(await a.snapshots.save({ id: accountId, ...account }, true)).toBe(false);
    await mkdir(a.path('Default/Cache'));
    await writeFile(a.path('Default/Cache/index'), 'x');
    expect(await a.snapshots.save({ id: accountId, ...account }, true)).toBe(false);
    await a.writes('changed since');
    expect(await a.snapshots.save({ id: accountId, ...account }, true)).toBe(true);
  });

  it('writes an unchanged profile again under a new epoch, so that other servers know that theirs is older', async () => {
    const a = new Server('server-a');
    await linkedOn(a);
    const again = await a.takesOver();
    expect(await a.snapshots.prepare(again)).toBe('local');
    expect(await a.snapshots.save(again, false)).toBe(true);
    expect((await stored()).epoch).toBe(again.epoch);
  });

  it('writes nothing for an instance that no longer holds the account', async () => {
    const [a, b] = [new Server('server-a'), new Server('server-b')];
    const onA = { id: accountId, ...(await linkedOn(a)) };
    await a.writes('too late');
    const before = await stored();
    await database.query('update accounts set held_by = null where id = $1', [accountId]);
    expect(await a.snapshots.save(onA, true), 'let go').toBe(false);
    await b.takesOver();
    expect(await a.snapshots.save(onA, true), 'taken over').toBe(false);
    expect(await stored()).toEqual(before);
  });

  it('takes a last snapshot for the next owner, which waits until this instance releases the account', async () => {
    const [a, b] = [new Server('server-a'), new Server('server-b')];
    const onA = { id: accountId, ...(await linkedOn(a)) };
    await database.query('update accounts set instance_id = $2 where id = $1', [
      accountId,
      'server-b.instance_00',
    ]);
    await a.writes('the last that a did');
    expect(await a.snapshots.save(onA, false)).toBe(true);
    expect((await stored()).epoch).toBe(onA.epoch);
    expect(await b.snapshots.prepare(await b.takesOver())).toBe('restored');
    expect(await b.content()).toBe('the last that a did');
  });

  it('never replaces a snapshot of a later epoch', async () => {
    const a = new Server('server-a');
    const account = { id: accountId, ...(await linkedOn(a)) };
    await a.writes('changed since');
    const later = database.createQueryRunner();
    await later.startTransaction();
    await later.query('update session_snapshots set epoch = epoch + 5 where account_id = $1', [accountId]);
    const saving = a.snapshots.save(account, true);
    await untilSomebodyWaits();
    await later.commitTransaction();
    await later.release();
    expect(await saving, 'the later one came first').toBe(false);
    expect(await a.snapshots.save(account, true)).toBe(false);
    expect((await stored()).epoch).toBe(account.epoch + 5);
  });

  it('waits for a takeover that is being written, and then writes nothing', async () => {
    const a = new Server('server-a');
    const onA = { id: accountId, ...(await linkedOn(a)) };
    await a.writes('too late');
    const before = await stored();
    const takeover = database.createQueryRunner();
    await takeover.startTransaction();
    await takeover.query('update accounts set held_by = $2, epoch = epoch + 1 where id = $1', [
      accountId,
      'server-b.instance_00',
    ]);
    const saving = a.snapshots.save(onA, true);
    await untilSomebodyWaits();
    await takeover.commitTransaction();
    await takeover.release();
    expect(await saving).toBe(false);
    expect(await stored()).toEqual(before);
  });

  it('refuses a session that is too large, and keeps the last snapshot', async () => {
    const a = new Server('server-a', { sessions: { snapshotMaxBytes: 10_000 } });
    const account = { id: accountId, ...(await linkedOn(a)) };
    const before = await stored();
    await a.writes(randomBytes(20_000));
    await expect(a.snapshots.save(account, true)).rejects.toThrow(ProfileTooLarge);
    expect(await stored()).toEqual(before);
  });

  it('takes no snapshot of a missing profile', async () => {
    const a = new Server('server-a');
    const account = await a.takesOver();
    await a.snapshots.prepare(account);
    expect(await a.snapshots.save(account, false)).toBe(false);
    expect(await stored()).toBeUndefined();
  });

  it('saves many sessions at the same time', async () => {
    const a = new Server('server-a');
    const ids = await Promise.all(Array.from({ length: 12 }, () => newAccount()));
    const saved = await Promise.all(
      ids.map(async (id) => {
        const account = await a.takesOver(id);
        await a.writes(`session of ${id}`, id);
        return a.snapshots.save(account, true);
      }),
    );
    expect(saved).toEqual(ids.map(() => true));
  });

  it('deletes a snapshot after a logout', async () => {
    const [a, b] = [new Server('server-a'), new Server('server-b')];
    const account = { id: accountId, ...(await linkedOn(a)) };
    await mkdir(join(root, `server-a/session-${accountId}.packing-abc123`));
    await a.snapshots.drop({ ...account, epoch: account.epoch - 1 });
    expect(await stored(), 'it is of a session that was linked since').toBeDefined();
    await a.snapshots.drop(account);
    expect(await stored()).toBeUndefined();
    expect(await readdir(join(root, 'server-a'))).toEqual([`session-${accountId}`]);
    expect(await b.snapshots.prepare(await b.takesOver())).toBe('new');
  });

  it('does nothing with SESSION_STORE=local, but marks the profile', async () => {
    const [a, b] = [new Server('server-a'), new Server('server-b', { sessions: { store: 'local' } })];
    await linkedOn(a);
    const before = await stored();
    const account = await b.takesOver();
    expect(await b.snapshots.prepare(account)).toBe('new');
    await b.writes('linked again on b');
    expect(await b.snapshots.save(account, true)).toBe(false);
    expect(await b.snapshots.prepare(account)).toBe('local');
    expect(await b.epoch()).toBe(account.epoch);
    expect(await stored()).toEqual(before);
  });
});

describe('an unusable snapshot', () => {
  const breakages: [string, () => Promise<unknown>][] = [
    [
      'is damaged',
      () =>
        database.query(
          `update session_snapshots set data = set_byte(data, 100, 1 + get_byte(data, 100) % 200)`,
        ),
    ],
    ['is truncated', () => database.query(`update session_snapshots set data = substring(data for 100)`)],
    ['is empty', () => database.query(`update session_snapshots set data = ''`)],
    [
      'belongs to another account',
      async () => {
        const other = new Server('server-a');
        const id = await newAccount();
        const account = await other.takesOver(id);
        await other.writes('credentials of somebody else', id);
        await other.snapshots.save(account, false);
        await database.query(
          `update session_snapshots set data = (select data from session_snapshots where account_id = $2), epoch = $3
           where account_id = $1`,
          [accountId, id, account.epoch],
        );
      },
    ],
    ['has another epoch', () => database.query(`update session_snapshots set epoch = epoch + 1`)],
  ];

  it.each(breakages)(
    'that %s never replaces a profile, and never counts as missing',
    async (_what, damage) => {
      const [a, b] = [new Server('server-a'), new Server('server-b')];
      await linkedOn(a);
      await damage();
      await expectUnusable(b);
    },
  );

  it('with another APP_KEY is reported, and is restored with the right key', async () => {
    const a = new Server('server-a');
    await linkedOn(a);
    const misconfigured = new Server('server-b', { appKey: 'another key of at least 32 characters' });
    await expectUnusable(misconfigured);
    await rm(join(root, 'server-b'), { recursive: true });
    const b = new Server('server-b');
    expect(await b.snapshots.prepare(await b.takesOver())).toBe('restored');
    expect(await b.content()).toBe('linked');
  });

  async function expectUnusable(server: Server): Promise<void> {
    const before = await stored();
    for (let attempt = 0; attempt < 2; attempt += 1) {
      const prepared = server.snapshots.prepare(await server.takesOver());
      await expect(prepared).rejects.toThrow(SnapshotUnusable);
      await expect(prepared).rejects.toThrow(/cannot be restored.*(APP_KEY|truncated).*session_snapshots/);
    }
    // An older local profile is not used either: its next snapshot would replace the newer one.
    await server.writes('older');
    await expect(server.snapshots.prepare(await server.takesOver())).rejects.toThrow(SnapshotUnusable);
    expect(await server.content()).toBe('older');
    expect(await stored()).toEqual(before);
  }
});

describe('the schedule of an account', () => {
  afterEach(() => vi.useRealTimers());

  it('saves after the delay, then at the interval, never two at the same time', async () => {
    vi.useFakeTimers();
    let saves = 0;
    let finish = () => {};
    const save = () => {
      saves += 1;
      return new Promise<void>((resolve) => (finish = resolve));
    };
    const schedule = new SnapshotSchedule(save, 1_000, 10_000);
    await vi.advanceTimersByTimeAsync(999);
    expect(saves).toBe(0);
    await vi.advanceTimersByTimeAsync(1);
    expect(saves).toBe(1);
    await vi.advanceTimersByTimeAsync(100_000);
    expect(saves, 'while the first one runs').toBe(1);
    finish();
    await vi.advanceTimersByTimeAsync(9_999);
    expect(saves).toBe(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(saves).toBe(2);

    let isStopped = false;
    const stopping = schedule.stop().then(() => (isStopped = true));
    await vi.advanceTimersByTimeAsync(100_000);
    expect(isStopped, 'while a save runs').toBe(false);
    finish();
    await stopping;
    await vi.advanceTimersByTimeAsync(100_000);
    expect([saves, vi.getTimerCount()]).toEqual([2, 0]);
  });

  it('takes snapshots while the account is held, and continues after failures', async () => {
    const sessions = { snapshotDelayMs: 10, snapshotIntervalMs: 10, snapshotMaxBytes: 10_000 };
    const a = new Server('server-a', { sessions });
    const account = await a.takesOver();
    await a.snapshots.prepare(account);
    await a.writes(randomBytes(20_000));
    const failed = vi.spyOn(a.snapshots, 'save');
    const schedule = a.snapshots.schedule(account);
    const failures = () => failed.mock.settledResults.filter(({ type }) => type === 'rejected');
    await eventually('two saves that failed', async () => failures().length > 1);
    await a.writes('small enough');
    await eventually('a snapshot', stored);
    await schedule.stop();
    const { taken_at: before } = await stored();
    await a.writes('after the end');
    expect(await a.snapshots.save(account, false)).toBe(true);
    expect((await stored()).taken_at.getTime()).toBeGreaterThan(before.getTime());
  });

  it('does nothing with SESSION_STORE=local', async () => {
    vi.useFakeTimers();
    const a = new Server('server-a', { sessions: { store: 'local' } });
    const schedule = a.snapshots.schedule({ id: accountId, epoch: 1 });
    expect(vi.getTimerCount()).toBe(0);
    await schedule.stop();
  });
});
