import { type INestApplicationContext, Module } from '@nestjs/common';
import { getDataSourceToken } from '@nestjs/typeorm';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AccountsModule } from '../../src/accounts/accounts.module.js';
import { WebVersionPolicyService } from '../../src/accounts/web-version-policy.service.js';
import type { WebVersionPolicyDto } from '../../src/accounts/web-versions.dto.js';
import { WebVersionsService } from '../../src/accounts/web-versions.service.js';
import { DatabaseModule } from '../../src/platform/database/database.module.js';
import { createLogger } from '../../src/platform/logging/logger.js';
import { createContext } from '../../src/platform/start-role.js';
import { insertAccount, insertWorkspace } from '../support/factories.js';
import { scratchDatabase } from '../support/scratch-database.js';

/* The rules of the policy of WhatsApp Web versions, on PostgreSQL. test/e2e/web-versions.spec.ts has the browsers. */

@Module({ imports: [DatabaseModule, AccountsModule] })
class TestModule {}

let context: INestApplicationContext;
let drop: () => Promise<void>;
let database: DataSource;
let versions: WebVersionsService;
let policy: WebVersionPolicyService;
let workspaceId: string;

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  context = await createContext(TestModule, scratch.config, createLogger('test', 'silent'));
  database = context.get<DataSource>(getDataSourceToken());
  versions = context.get(WebVersionsService);
  policy = context.get(WebVersionPolicyService);
});
afterAll(async () => {
  await context?.close();
  await drop?.();
});

beforeEach(async () => {
  await database.query(
    'delete from accounts; delete from web_versions; delete from events; delete from server_logs',
  );
  workspaceId = await insertWorkspace(database);
  await policy.set({ mode: 'latest' });
});

const good = '2.3000.1';
const next = '2.3000.2';

/** A linked account that should be connected. */
async function addAccount(environment: 'live' | 'sandbox' = 'sandbox'): Promise<string> {
  const columns = { environment, status: 'ready', desired_state: 'connected', linked_at: new Date() };
  return insertAccount(database, workspaceId, columns);
}

/** What an instance writes when the account has loaded a version. */
async function loads(
  id: string,
  version: string,
  contract: 'ok' | 'broken' = 'ok',
  html: string | null = `the page of ${version}`,
): Promise<void> {
  const missing = contract === 'broken' ? JSON.stringify(['WAWebMsgKey']) : '[]';
  const [[{ environment }]] = await database.query(
    `update accounts set web_version = $2, web_contract = $3, web_missing = $4, web_checked_at = now() where id = $1
     returning environment`,
    [id, version, contract, missing],
  );
  if (html !== null) await versions.keep(environment, version, html);
}

const set = (body: Partial<WebVersionPolicyDto>) => policy.set(body as WebVersionPolicyDto);
const given = async (id: string) => (await versions.pageFor(id))?.version ?? null;
const find = async (version: string) => (await versions.list()).find((found) => found.version === version);
const statusEvents = async (): Promise<unknown[]> =>
  (
    await database.query(
      `select data from events where type = 'web_version.status' order by transaction_id, id`,
    )
  ).map(({ data }: { data: unknown }) => data);

/** Four accounts on a good version, and the policy canary; the first account is the canary. */
async function startCanary(sends = 3): Promise<string[]> {
  const ids = [await addAccount(), await addAccount(), await addAccount(), await addAccount()];
  for (const id of ids) await loads(id, good);
  await set({ mode: 'canary', canaries: [ids[0]!], sends });
  return ids;
}

describe('the list of versions', () => {
  it('tells for each version how many accounts have it, what their checks found, and what was sent', async () => {
    const [one, two, three] = [await addAccount(), await addAccount(), await addAccount()];
    await loads(one, good);
    await loads(two, good);
    await loads(three, next, 'broken', null);
    await versions.count('sandbox', good, 7, 0);
    await versions.count('sandbox', good, 2, 1);
    await versions.count('sandbox', good, 4, 0);
    const times = { firstSeenAt: expect.any(String), lastSeenAt: expect.any(String) };
    expect(await versions.list()).toEqual([
      expect.objectContaining({
        version: next,
        accounts: 1,
        brokenAccounts: 1,
        contract: 'broken',
        isKept: false,
      }),
      {
        environment: 'sandbox',
        version: good,
        status: 'new',
        reason: null,
        contract: 'ok',
        isKept: true,
        accounts: 2,
        brokenAccounts: 0,
        sends: 13,
        failures: 1,
        sendsInARow: 4,
        isSelfTested: false,
        ...times,
      },
    ]);
    await loads(two, next, 'broken', null);
    expect(await find(good)).toMatchObject({ accounts: 1 });
    expect(await find(next)).toMatchObject({ accounts: 2 });
    expect(await statusEvents()).toEqual(
      [good, next].map((version) =>
        expect.objectContaining({ version, status: 'new', previousStatus: null }),
      ),
    );
  });

  it('keeps the first page of a version, and forgets the oldest versions that nobody uses', async () => {
    const [pinned, driven] = ['2.2.0', '2.2.1'];
    const id = await addAccount();
    await loads(id, pinned, 'ok', 'first');
    await loads(id, pinned, 'ok', 'second');
    expect(await versions.page('sandbox', pinned)).toEqual({ version: pinned, html: 'first' });
    await set({ mode: 'pinned', version: pinned });
    await loads(id, driven);
    for (let number = 2; number < 40; number += 1) await versions.keep('sandbox', `2.2.${number}`, 'x');
    await versions.keep('live', '2.2.99', 'x');
    const kept = (await versions.list()).filter(({ environment }) => environment === 'sandbox');
    expect(kept).toHaveLength(22);
    expect(kept.map(({ version }) => version)).toEqual(
      expect.arrayContaining([pinned, driven, '2.2.39', '2.2.20']),
    );
  });
});

describe('the policy pinned', () => {
  it('gives all accounts the page of one version, in the environment that has it', async () => {
    const [sandbox, live] = [await addAccount(), await addAccount('live')];
    await loads(sandbox, good);
    await loads(sandbox, next);
    expect(await given(sandbox)).toBeNull();
    expect(await set({ mode: 'pinned', version: good })).toMatchObject({
      mode: 'pinned',
      version: good,
      versionForAll: { live: null, sandbox: good },
    });
    expect(await versions.pageFor(sandbox)).toEqual({ version: good, html: `the page of ${good}` });
    expect(await given(live)).toBeNull();
    await set({ mode: 'latest' });
    expect(await given(sandbox)).toBeNull();
  });

  it('refuses a version without a page, and writes a change to the log', async () => {
    const id = await addAccount();
    await loads(id, good);
    await loads(id, next, 'ok', null);
    for (const version of [next, '2.3000.9'])
      await expect(set({ mode: 'pinned', version })).rejects.toThrow('GET /admin/web-versions');
    expect(await policy.get()).toMatchObject({ mode: 'latest', version: null });
    await set({ mode: 'pinned', version: good });
    const [log] = await database.query(`select details from server_logs order by id desc limit 1`);
    expect(log.details).toMatchObject({ old: { mode: 'latest' }, new: { mode: 'pinned', version: good } });
  });
});

describe('the policy canary', () => {
  it('gives the others the version that works for most, and canaries the newest page', async () => {
    const [canary, ...others] = await startCanary();
    expect(await given(canary!)).toBeNull();
    for (const other of others) expect(await given(other)).toBe(good);
    expect(await find(good)).toMatchObject({ status: 'good' });
    expect(await policy.get()).toMatchObject({
      canaries: [canary],
      canariesNow: [canary],
      versionForAll: { live: null, sandbox: good },
    });
  });

  it('without a marked account, takes the oldest linked account of the environment, and no other one if it stops', async () => {
    const [oldest, second] = await startCanary();
    await set({ mode: 'canary' });
    const live = await addAccount('live');
    const isCanary = async () => (await policy.get()).canariesNow;
    expect(await isCanary()).toEqual([oldest, live].sort());
    await database.query(`update accounts set status = 'conflict' where id = $1`, [oldest]);
    expect(await isCanary()).toEqual([oldest, live].sort());
    await database.query(`update accounts set desired_state = 'disconnected' where id = $1`, [oldest]);
    expect(await isCanary()).toEqual([second, live].sort());
  });

  it('gives a new version to all only after its check, a message to itself, and sends in a row', async () => {
    const [canary, other] = await startCanary(3);
    const isForAll = async () => {
      await policy.judge();
      return (await given(other!)) === next;
    };
    await loads(canary!, next);
    expect(await versions.wanted([canary!, other!])).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ id: canary, needsSelfTest: true }),
        expect.objectContaining({ id: other, needsSelfTest: false }),
      ]),
    );
    expect(await isForAll()).toBe(false);
    await versions.count('sandbox', next, 5, 0);
    expect(await isForAll()).toBe(false);
    await versions.selfSent('sandbox', next);
    await versions.count('sandbox', next, 0, 1);
    expect(await isForAll()).toBe(false);
    await versions.count('sandbox', next, 2, 0);
    expect(await isForAll()).toBe(false);
    await versions.count('sandbox', next, 1, 0);
    expect(await isForAll()).toBe(true);
    expect(await find(next)).toMatchObject({ status: 'good' });
    expect((await statusEvents()).at(-1)).toMatchObject({
      version: next,
      status: 'good',
      previousStatus: 'new',
    });
    expect(await versions.wanted([canary!])).toMatchObject([{ version: null, needsSelfTest: false }]);
  });

  it('refuses a version whose page is broken, and tries it again when its page works', async () => {
    const [canary, other] = await startCanary(2);
    await loads(canary!, next, 'broken');
    await versions.selfSent('sandbox', next);
    await versions.count('sandbox', next, 5, 0);
    await policy.judge();
    expect(await find(next)).toMatchObject({
      status: 'refused',
      reason: expect.stringContaining('WAWebMsgKey'),
    });
    expect((await statusEvents()).at(-1)).toMatchObject({ version: next, status: 'refused' });
    expect(await given(other!)).toBe(good);

    await loads(canary!, next);
    // The held messages leave before anybody decides again.
    await versions.count('sandbox', next, 2, 0);
    await policy.judge();
    expect(await find(next)).toMatchObject({
      status: 'new',
      reason: null,
      isSelfTested: false,
      sendsInARow: 2,
    });
    await versions.selfSent('sandbox', next);
    await policy.judge();
    expect(await given(other!)).toBe(next);
  });

  it('does not decide while one of several canaries finds the page broken, or while the policy is another', async () => {
    const [canary, second, other] = await startCanary(0);
    await set({ mode: 'canary', canaries: [canary!, second!], sends: 0 });
    await loads(canary!, next);
    await loads(second!, next, 'broken');
    await versions.selfSent('sandbox', next);
    await policy.judge();
    expect(await given(other!)).toBe(good);
    await set({ mode: 'latest' });
    await loads(second!, next);
    await policy.judge();
    expect(await find(next)).toMatchObject({ status: 'refused' });
  });

  it('begins with a version that the operator names, and refuses unknown accounts', async () => {
    const [canary, other] = await startCanary();
    await loads(canary!, next);
    await set({ mode: 'canary', version: next });
    expect(await given(other!)).toBe(next);
    await set({ mode: 'canary', version: good });
    expect(await given(other!)).toBe(good);
    const unknown = '019aa6e2-5b1c-7c3e-9a41-0d3f5e7b9c21';
    await expect(set({ mode: 'canary', canaries: [unknown] })).rejects.toThrow(unknown);
  });
});
