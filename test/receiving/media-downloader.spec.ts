import type { INestApplicationContext } from '@nestjs/common';
import { getDataSourceToken } from '@nestjs/typeorm';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { MediaModule } from '../../src/media/media.module.js';
import { MediaService } from '../../src/media/media.service.js';
import { MediaDownloader } from '../../src/receiving/media-downloader.js';
import { MessageFiles } from '../../src/sending/message-files.js';
import type { SessionMessages } from '../../src/whatsapp/session-messages.js';
import { IncomingMediaService } from '../../src/messages/incoming-media.service.js';
import { PacingReservations } from '../../src/sending/pacing-reservations.js';
import { IncomingService } from '../../src/receiving/incoming.service.js';
import type { Config } from '../../src/platform/config/config.js';
import { DatabaseModule } from '../../src/platform/database/database.module.js';
import { createLogger } from '../../src/platform/logging/logger.js';
import { createContext } from '../../src/platform/start-role.js';
import { eventually } from '../support/eventually.js';
import { insertAccount, insertInstance, insertServer, insertWorkspace, ready } from '../support/factories.js';
import { fake } from '../support/fake.js';
import { sessionsWith } from '../support/fakes.js';
import { scratchDatabase } from '../support/scratch-database.js';

/* Which download is made when, and what becomes of it; the page's part is tested end to end. */

let context: INestApplicationContext;
let drop: () => Promise<void>;
let database: DataSource;
let config: Config;
let dir: string;
let media: MediaService;
let received: IncomingMediaService;
let downloader: MediaDownloader;
let workspaceId: string;
/** By WhatsApp id: what the page does, write a file or fail. For other ids it writes a file at once. */
let pages: Map<string, (path: string) => Promise<void>>;
let fetched: string[];

const silent = createLogger('test', 'silent');
const write = async (path: string) => writeFileSync(path, randomBytes(20));

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  dir = mkdtempSync(join(tmpdir(), 'flotilla-downloads-'));
  config = { ...scratch.config, varDir: dir, media: { ...scratch.config.media, path: join(dir, 'media') } };
  context = await createContext({ module: class {}, imports: [DatabaseModule, MediaModule] }, config, silent);
  database = context.get<DataSource>(getDataSourceToken());
  media = context.get(MediaService);
  received = new IncomingMediaService(database);
  const { id } = config.instance;
  await insertServer(database, id.slice(0, id.lastIndexOf('.')));
  await insertInstance(database, id);
});
afterAll(async () => {
  await context?.close();
  await drop?.();
  rmSync(dir, { recursive: true, force: true });
});

beforeEach(async () => {
  await database.query('delete from workspaces');
  workspaceId = await insertWorkspace(database);
  pages = new Map();
  fetched = [];
  const messages = fake<SessionMessages>({
    downloadMedia: async ({ whatsappId }, path) => {
      fetched.push(whatsappId);
      await (pages.get(whatsappId) ?? write)(path);
      return { outcome: 'fetched', size: 20, mimetype: 'image/png', filename: null };
    },
  });
  const files = new MessageFiles(media, config);
  await files.onModuleInit();
  downloader = new MediaDownloader(sessionsWith({ messages }), received, media, files, config, silent);
});
afterEach(() => downloader.beforeApplicationShutdown());

function newAccount(): Promise<string> {
  return insertAccount(database, workspaceId, { ...ready, instance_id: config.instance.id });
}

/** Stores an incoming message with media. @returns its id */
async function incoming(accountId: string, whatsappId: string): Promise<string> {
  const account = { id: accountId };
  const file = { mimetype: 'application/octet-stream', size: 20, filename: whatsappId };
  await new IncomingService(database, new PacingReservations(database)).storeIncoming(account, [
    { whatsappId, chatId: '628@c.us', from: '628@c.us', type: 'document', text: '', media: file },
  ]);
  const [{ id }] = await database.query('select id from messages where whatsapp_id = $1', [whatsappId]);
  return id;
}

async function row(id: string) {
  const [found] = await database.query(
    'select media, media_due_at as "dueAt", media_attempts as attempts from messages where id = $1',
    [id],
  );
  return found;
}

/** Waits until the download of a message has ended. */
const settled = (id: string) =>
  eventually('its media has been seen to', async () => (await row(id)).dueAt === null);

/** A promise that the test resolves. */
function gate(): { opened: Promise<void>; open: () => void } {
  let open = () => undefined as void;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}

describe('downloads', { timeout: 60_000 }, () => {
  it('of a slow account run one at a time, and do not delay other accounts', async () => {
    const [slow, other] = [await newAccount(), await newAccount()];
    const { opened, open } = gate();
    const first = await incoming(slow, 'slow 1');
    pages.set('slow 1', (path) => opened.then(() => write(path)));
    const second = await incoming(slow, 'slow 2');
    const others = [];
    for (let count = 0; count < 10; count += 1) others.push(await incoming(other, `other ${count}`));
    downloader.wake();
    await Promise.all(others.map(settled));
    expect(fetched.filter((whatsappId) => whatsappId.startsWith('slow'))).toEqual(['slow 1']);
    open();
    await Promise.all([first, second].map(settled));
    expect((await row(second)).media).toMatchObject({ mediaId: expect.any(String), size: 20, error: null });
  });

  it('of one message are shared by all callers that request it', async () => {
    const accountId = await newAccount();
    const id = await incoming(accountId, 'wanted');
    const { opened, open } = gate();
    pages.set('wanted', (path) => opened.then(() => write(path)));
    downloader.wake();
    await eventually('it is fetched', () => fetched.length > 0);
    expect(fetched).toEqual(['wanted']);
    const asking = [downloader.download(accountId, id, 0), downloader.download(accountId, id, 0)];
    open();
    await Promise.all(asking);
    expect(fetched).toEqual(['wanted']);
    expect(await received.isStored(id)).toBe(true);
  });

  it('that are requested wait for their turn, up to a limit', async () => {
    const accountId = await newAccount();
    const { opened, open } = gate();
    const ids = [];
    for (let count = 0; count < 40; count += 1) ids.push(await incoming(accountId, `asked ${count}`));
    pages.set('asked 0', (path) => opened.then(() => write(path)));
    downloader.wake();
    await eventually('the first is fetched', () => fetched.length > 0);
    expect(fetched).toEqual(['asked 0']);
    const asking = ids.map((id) => downloader.download(accountId, id, 0));
    const outcomes = Promise.allSettled(asking);
    await expect(asking[39]).rejects.toMatchObject({ status: 409, code: 'media.not_downloaded' });
    expect(fetched).toEqual(['asked 0']);
    open();
    await Promise.all([asking[0], asking[1]]);
    await downloader.beforeApplicationShutdown();
    await outcomes;
    expect(new Set(fetched).size).toBe(fetched.length);
  });

  it('that fail are retried until the message is published without media, and tenants see no internal error', async () => {
    const accountId = await newAccount();
    const id = await incoming(accountId, 'fails');
    pages.set('fails', () => Promise.reject(new Error('connect ECONNREFUSED 10.0.0.1:9000')));
    // More attempts than there are different pauses.
    for (let attempt = 1; attempt <= 6; attempt += 1) {
      await database.query('update messages set media_due_at = now() where id = $1', [id]);
      downloader.wake();
      await eventually('it is tried', async () => (await row(id)).attempts >= attempt);
      await eventually('it pauses', async () => {
        // The claim has ended: a claim lasts longer than the longest pause.
        const [{ pause }] = await database.query(
          'select extract(epoch from media_due_at - now())::float as pause from messages where id = $1',
          [id],
        );
        return pause <= 60;
      });
    }
    expect((await row(id)).media.error).toBeNull();
    await expect(downloader.download(accountId, id, 0)).rejects.toMatchObject({
      code: 'media.not_downloaded',
      message: expect.not.stringContaining('ECONN'),
    });
    await database.query(`update messages set created_at = now() - interval '16 minutes' where id = $1`, [
      id,
    ]);
    expect(await received.giveUpLate()).toBe(1);
    expect((await row(id)).media.error).toMatchObject({ code: 'media.not_downloaded' });
  });

  it('restore deleted media', async () => {
    const accountId = await newAccount();
    const id = await incoming(accountId, 'deleted');
    await downloader.download(accountId, id, 0);
    const { mediaId } = (await row(id)).media;
    await downloader.download(accountId, id, 0);
    expect(fetched).toEqual(['deleted']);
    await media.delete(workspaceId, mediaId);
    expect(await received.isStored(id)).toBe(false);
    await downloader.download(accountId, id, 0);
    expect(await received.isStored(id)).toBe(true);
  });
});
