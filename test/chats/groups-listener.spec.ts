import { DataSource } from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Account } from '../../src/accounts/account.entity.js';
import type { AccountSessions } from '../../src/sessions/account-sessions.js';
import { GroupNotices } from '../../src/chats/group-notices.js';
import { GroupsListener } from '../../src/chats/groups.listener.js';
import { createLogger } from '../../src/platform/logging/logger.js';
import type { PageGroupNotice } from '../../src/whatsapp/in-page/page-functions.js';
import type { SessionMessages } from '../../src/whatsapp/session-messages.js';
import { eventually } from '../support/eventually.js';
import { accountOf, insertAccount, insertWorkspace } from '../support/factories.js';
import { fake } from '../support/fake.js';
import { sessionsWith, startSession } from '../support/fakes.js';
import { scratchDatabase } from '../support/scratch-database.js';

/* What is written of the notices that sessions tell, in a real database. The sessions are only what tells them. */

let database: DataSource;
let drop: () => Promise<void>;
let workspaceId: string;

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  database = await new DataSource({ type: 'postgres', url: scratch.config.database.url }).initialize();
  workspaceId = await insertWorkspace(database);
});
afterAll(async () => {
  await database?.destroy();
  await drop?.();
});

const seconds = (time: Date) => Math.floor(time.getTime() / 1000);
const daysAgo = (days: number) => new Date(Date.now() - days * 24 * 3_600_000);

function notice(noticeId: string, other: Partial<PageGroupNotice> = {}): PageGroupNotice {
  return {
    kind: 'group',
    noticeId,
    chatId: '120363000000000001@g.us',
    change: 'subject',
    by: null,
    whom: [],
    text: noticeId,
    timestamp: seconds(new Date()),
    ...other,
  };
}

/** What the pages of an instance hold; they answer once `answers` is done. */
class Pages {
  held: PageGroupNotice[] = [];
  answers: Promise<void> = Promise.resolve();
  asked: number[] = [];
  readonly sessions = sessionsWith({
    messages: fake<SessionMessages>({
      recentNotices: async (since) => {
        this.asked.push(since);
        await this.answers;
        return this.held.filter(({ timestamp }) => timestamp! >= since);
      },
    }),
  });
}

async function newAccount(linkedAt: Date): Promise<Account> {
  return accountOf({ id: await insertAccount(database, workspaceId), linkedAt });
}

async function told(account: Account): Promise<string[]> {
  const rows = await database.query(
    `select data ->> 'noticeId' as id from events where account_id = $1 and type like 'group.%' order by events.id`,
    [account.id],
  );
  return rows.map(({ id }: { id: string }) => id);
}

describe('what is done to groups', () => {
  let pages: Pages;
  let sessions: AccountSessions;
  let listener: GroupsListener;

  beforeEach(() => {
    pages = new Pages();
    ({ sessions } = pages);
    listener = new GroupsListener(sessions, new GroupNotices(database), createLogger('test', 'silent'));
    listener.onModuleInit();
  });

  it('is not told again when the log has forgotten that it was told', async () => {
    const account = await newAccount(daysAgo(400));
    pages.held = [notice('old', { timestamp: seconds(daysAgo(31)) }), notice('new')];
    sessions.emit('ready', account);
    await eventually('told', async () => (await told(account)).length > 0);
    await listener.beforeApplicationShutdown();
    expect(await told(account)).toEqual(['new']);
    // The log keeps events for thirty days.
    expect(pages.asked[0]).toBeGreaterThan(seconds(daysAgo(29.5)));
  });

  it('while the account was away comes before what happens while that is read', async () => {
    const account = await newAccount(daysAgo(1));
    let answer = () => {};
    pages.answers = new Promise((resolve) => (answer = resolve));
    pages.held = [notice('one'), notice('two')];
    sessions.emit('ready', account);
    startSession(sessions, account).emit('group', notice('three'));
    // Another account's does not wait for it.
    const other = await newAccount(daysAgo(1));
    startSession(sessions, other).emit('group', notice('other'));
    await eventually('the other', async () => (await told(other)).length === 1);
    expect(await told(account)).toEqual([]);
    answer();
    await eventually('all', async () => (await told(account)).length === 3);
    expect(await told(account)).toEqual(['one', 'two', 'three']);
    await listener.beforeApplicationShutdown();
  });

  it('is told whatever nonsense comes along with it, each once', async () => {
    const account = await newAccount(daysAgo(1));
    const session = startSession(sessions, account);
    for (const one of [
      notice('good'),
      notice('timeless', { timestamp: null }),
      notice('endless', { timestamp: 1e300 }),
      notice('x'.repeat(5_000)),
      notice('zero', { text: 'a\u0000b', by: { chatId: '\ud800@lid', alias: null } }),
      notice('good'),
    ])
      session.emit('group', one);
    // Another group's may have the same id.
    session.emit('group', notice('good', { chatId: '120363000000000002@g.us' }));
    await listener.beforeApplicationShutdown();
    expect(await told(account)).toEqual(['good', 'zero', 'good']);
  });
});
