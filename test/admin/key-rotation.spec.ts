import { randomBytes } from 'node:crypto';
import { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AccountProxies } from '../../src/accounts/account-proxies.js';
import { Account } from '../../src/accounts/account.entity.js';
import { KeyRotationService } from '../../src/admin/key-rotation.service.js';
import type { Config } from '../../src/platform/config/config.js';
import { dataSourceOptions } from '../../src/platform/database/data-source.js';
import { createLogger } from '../../src/platform/logging/logger.js';
import {
  decrypt,
  DecryptionFailed,
  encrypt,
  encryptionKey,
  encryptionKeys,
} from '../../src/platform/encryption.js';
import { insertAccount, insertWorkspace } from '../support/factories.js';
import { changed } from '../support/fake.js';
import { runCommand } from '../support/commands.js';
import { scratchDatabase } from '../support/scratch-database.js';

/* APP_KEY changes while there are encrypted rows: the copies of sessions. */

let drop: () => Promise<void>;
let config: Config;
let database: DataSource;
let workspaceId: string;
const [oldKey, newKey, lostKey] = [1, 2, 3].map(() => randomBytes(32).toString('base64')) as [
  string,
  string,
  string,
];

beforeAll(async () => {
  const scratch = await scratchDatabase();
  ({ drop } = scratch);
  config = { ...scratch.config, appKey: newKey, appPreviousKeys: [oldKey] };
  database = await new DataSource({ ...dataSourceOptions(config), entities: [Account] }).initialize();
  workspaceId = await insertWorkspace(database);
}, 60_000);
afterAll(async () => {
  await database?.destroy();
  await drop?.();
});
beforeEach(() => database.query('delete from accounts'));

const purpose = 'session-snapshots';

async function snapshot(appKey: string, plain: Buffer, epoch = 4): Promise<string> {
  const id = await insertAccount(database, workspaceId);
  await database.query(
    `insert into session_snapshots (account_id, workspace_id, epoch, digest, size_bytes, data)
     values ($1, $2, $3, 'd', 1, $4)`,
    [id, workspaceId, epoch, encrypt(encryptionKey(appKey, purpose), plain, `${id}@${epoch}`)],
  );
  return id;
}

async function read(id: string, keys: Buffer | Buffer[]): Promise<Buffer> {
  const [row] = await database.query('select epoch, data from session_snapshots where account_id = $1', [id]);
  return decrypt(keys, row.data, `${id}@${row.epoch}`);
}

const service = () => new KeyRotationService(database, config);
const present = encryptionKey(newKey, purpose);

describe('a rotation of APP_KEY', () => {
  it('re-encrypts the secrets of webhooks with the new key', async () => {
    const id = uuidv7();
    const key = encryptionKey(oldKey, 'webhook-secrets');
    await database.query(
      `insert into webhooks (id, workspace_id, url, events, secret, previous_secret, headers, login)
       values ($1, $2, 'https://x', '{}', $3, $4, $5, $6)`,
      [
        id,
        workspaceId,
        ...['now', 'before', 'headers', 'login'].map((text) => encrypt(key, Buffer.from(text), id)),
      ],
    );
    await service().rotate();
    const [row] = await database.query(
      'select secret, previous_secret, headers, login from webhooks where id = $1',
      [id],
    );
    const current = encryptionKey(newKey, 'webhook-secrets');
    expect(decrypt(current, row.secret, id).toString()).toBe('now');
    expect(decrypt(current, row.previous_secret, id).toString()).toBe('before');
    expect(decrypt(current, row.headers, id).toString()).toBe('headers');
    expect(decrypt(current, row.login, id).toString()).toBe('login');
  });

  it('re-encrypts the users and passwords of proxies, also those that an older version wrote in plain text', async () => {
    const proxies = (appKey: string) =>
      new AccountProxies(
        { ...config, appKey },
        createLogger('test', 'silent'),
        database.getRepository(Account),
      );
    const url = 'socks5://user:pass%3Aword@proxy.example.com:1080';
    const [fresh, old, useless, bare] = [
      await insertAccount(database, workspaceId),
      await insertAccount(database, workspaceId, { proxy_url: url }),
      await insertAccount(database, workspaceId, {
        proxy_url: 'http://user:password@proxy.example.com/path',
      }),
      await insertAccount(database, workspaceId, { proxy_url: 'http://proxy.example.com:3128/' }),
    ];
    await database.getRepository(Account).update(fresh, proxies(oldKey).columns(fresh, url));
    const read = (id: string) => database.getRepository(Account).findOneByOrFail({ id });
    const expected = {
      scheme: 'socks5',
      host: 'proxy.example.com',
      port: 1080,
      credentials: { user: 'user', password: 'pass:word' },
    };
    // Both forms can be read before and after.
    for (const id of [fresh, old]) expect(proxies(newKey).open(await read(id))).toEqual(expected);
    expect(await proxies(oldKey).encryptOldRows()).toBe(2);
    expect(await proxies(oldKey).encryptOldRows()).toBe(0);
    const outcome = await service().rotate();
    expect(outcome.find(({ column }) => column === 'proxy_credentials')).toMatchObject({
      rotated: 2,
      left: 0,
    });
    const newKeyOnly = { ...config, appPreviousKeys: [] };
    const alone = new AccountProxies(
      newKeyOnly,
      createLogger('test', 'silent'),
      database.getRepository(Account),
    );
    for (const id of [fresh, old]) expect(alone.open(await read(id))).toEqual(expected);
    expect(alone.open(await read(bare))).toEqual({
      ...expected,
      scheme: 'http',
      port: 3128,
      credentials: null,
    });
    expect(await read(useless)).toMatchObject({
      proxyUrl: 'http://proxy.example.com/path',
      proxyCredentials: null,
    });
    const [{ all }] = await database.query('select json_agg(a)::text as all from accounts a');
    expect(all).not.toMatch(/password|pass%3Aword/);
    // A value in the row of another account cannot be read.
    const copied = { ...(await read(fresh)), id: old };
    expect(() => alone.open(copied)).toThrow(DecryptionFailed);
  });

  it('re-encrypts all values with the new key, also large values, so that the old key is no longer needed', async () => {
    const large = randomBytes(9 * 2 ** 20);
    const ids = [
      await snapshot(oldKey, Buffer.from('one')),
      await snapshot(newKey, Buffer.from('two')),
      await snapshot(oldKey, large),
    ];
    // Both values can be read before the rotation.
    expect((await read(ids[0]!, encryptionKeys(config, purpose))).toString()).toBe('one');
    const progress: [string, number, number][] = [];
    const outcome = await service().rotate((...step) => progress.push(step));
    expect(outcome).toContainEqual({
      table: 'session_snapshots',
      column: 'data',
      rotated: 2,
      failed: [],
      left: 0,
    });
    expect(progress).toEqual([
      ['session_snapshots', 1, 2],
      ['session_snapshots', 2, 2],
    ]);
    expect((await read(ids[0]!, present)).toString()).toBe('one');
    expect((await read(ids[1]!, present)).toString()).toBe('two');
    expect((await read(ids[2]!, present)).equals(large)).toBe(true);
    expect((await service().rotate())[0]).toMatchObject({ rotated: 0, left: 0 });
  });

  it('is a command whose exit code is 1 while values are left', async () => {
    const env = {
      ...process.env,
      DATABASE_URL: config.database.url,
      APP_KEY: newKey,
      APP_PREVIOUS_KEYS: oldKey,
      ENV_FILE: 'none',
    };
    const mine = await snapshot(oldKey, Buffer.from('mine'));
    const lost = await snapshot(lostKey, Buffer.from('lost'));
    const first = await runCommand(['key:rotate'], env);
    expect(first.code).toBe(1);
    expect(first.stdout).toContain('session_snapshots.data: 1 re-encrypted, 1 left.');
    expect(first.stderr).toContain(lost);
    expect((await read(mine, present)).toString()).toBe('mine');
    const second = await runCommand(['key:rotate'], { ...env, APP_PREVIOUS_KEYS: `${oldKey},${lostKey}` });
    expect([second.code, second.stdout]).toEqual([0, expect.stringContaining('1 re-encrypted, 0 left.')]);
  }, 60_000);

  it('resumes after an interruption', async () => {
    const ids = [];
    for (let index = 0; index < 5; index += 1) ids.push(await snapshot(oldKey, Buffer.from(String(index))));
    const broken = service().rotate((_table, done) => {
      if (done === 2) throw new Error('pulled the plug');
    });
    await expect(broken).rejects.toThrow('pulled the plug');
    expect((await service().rotate())[0]).toMatchObject({ rotated: 3, left: 0 });
    for (const [index, id] of ids.entries()) expect((await read(id, present)).toString()).toBe(String(index));
  });

  it('reports the values that no key decrypts, and does not change them', async () => {
    const lost = await snapshot(lostKey, Buffer.from('lost'));
    await snapshot(oldKey, Buffer.from('mine'));
    expect((await service().rotate())[0]).toMatchObject({ rotated: 1, failed: [lost], left: 1 });
    expect((await read(lost, encryptionKey(lostKey, purpose))).toString()).toBe('lost');
  });

  it('does not overwrite a value that an instance changes at the same time', async () => {
    const first = await snapshot(oldKey, Buffer.from('a'));
    const second = await snapshot(oldKey, Buffer.from('b'));
    const [, last] = [first, second].sort();
    const newer = encrypt(encryptionKey(oldKey, purpose), Buffer.from('newer'), `${last}@9`);
    // Changes the value after the rotation has read it, and before the rotation writes it.
    const racing = changed(database, {
      query: async (sql: string, values: unknown[] = []) => {
        if (sql.trim().startsWith('update session_snapshots') && values[0] === last) {
          await database.query('update session_snapshots set epoch = 9, data = $2 where account_id = $1', [
            last,
            newer,
          ]);
        }
        return database.query(sql, values);
      },
    });
    const outcome = await new KeyRotationService(racing, config).rotate();
    expect(outcome[0]).toMatchObject({ rotated: 1, failed: [], left: 1 });
    expect((await read(last!, encryptionKey(oldKey, purpose))).toString()).toBe('newer');
    expect((await service().rotate())[0]).toMatchObject({ rotated: 1, left: 0 });
    expect((await read(last!, present)).toString()).toBe('newer');
  });
});
