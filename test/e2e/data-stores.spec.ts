import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkPostgres, checkRedis } from '../../setup/connections.mjs';
import { PROJECT } from '../../setup/settings.mjs';
import { DataStores } from '../support/data-stores.js';
import { eventually } from '../support/eventually.js';
import { Flotilla } from '../support/flotilla.js';

/* Data stores as a provider has them, the real programs: TLS with a CA of its own, users with few rights, a pooler. */

let stores: DataStores;

beforeAll(async () => {
  stores = await DataStores.start();
});
afterAll(() => stores?.stop());

describe('PostgreSQL behind PgBouncer, and Redis, both with TLS and a CA of their own', () => {
  it('migrates, serves, works and sends: no connection is without TLS, and no command is forbidden', async () => {
    const flotilla = await Flotilla.start({
      instances: 1,
      env: {
        DATABASE_URL: stores.poolerUrl('session'),
        REDIS_URL: stores.redisUrl,
        REDIS_CA_FILE: stores.caFile,
      },
    });
    try {
      const workspace = await flotilla.newWorkspace();
      const [account] = await workspace.linkedAccounts(1);
      const { body } = await workspace.send({
        accountId: account.id,
        to: await flotilla.newPhone(),
        text: 'encrypted',
      });
      await eventually(
        'read',
        async () => (await workspace.call('GET', `/messages/${body.id}`)).body.status === 'read',
      );
      expect(await flotilla.stack.cli('queue:status', '--json')).toMatchObject({ code: 0 });
      expect((await flotilla.call('GET', '/health/ready')).status).toBe(200);
      expect(await flotilla.stack.cli('migrate')).toMatchObject({
        stdout: expect.stringContaining('up to date'),
      });
      const { connections, encrypted } = await stores.encrypted();
      expect(encrypted).toBe(connections);
      expect(connections).toBeGreaterThan(4);
      expect(await stores.refusedCommands()).toEqual([]);
      await expect(stores.callRedis('config', 'get', '*')).rejects.toThrow('NOPERM');
      await expect(stores.callRedis('keys', '*')).rejects.toThrow('NOPERM');
      expect(await stores.refusedCommands()).toEqual(['keys', 'config|get']);
    } finally {
      await flotilla.stop();
    }
  });

  it('are checked at the start; a certificate of an unknown CA is named with its cure', async () => {
    await checkPostgres(stores.postgresUrl());
    await checkPostgres(stores.poolerUrl('session'));
    await checkRedis(stores.redisUrl, stores.caFile);
    for (const url of [stores.postgresUrl(null), stores.postgresUrl(stores.otherCaFile)])
      await expect(checkPostgres(url)).rejects.toThrow(/certificate .*cannot be trusted.*sslrootcert=FILE/);
    for (const caFile of [undefined, stores.otherCaFile])
      await expect(checkRedis(stores.redisUrl, caFile)).rejects.toThrow(
        /certificate .*cannot be trusted.*REDIS_CA_FILE/,
      );
    await expect(checkPostgres(stores.postgresUrl('/no/ca.pem'))).rejects.toThrow(
      /file that DATABASE_URL names cannot be read.*sslrootcert/,
    );
    await expect(checkRedis(stores.redisUrl, '/no/ca.pem')).rejects.toThrow('REDIS_CA_FILE cannot be read');
  });

  it('are named with the cure by the programs too', async () => {
    const migrate = (url: string) => run('cli.mjs', ['migrate'], { DATABASE_URL: url });
    const [unknown, missing, unreadable, redis] = await Promise.all([
      migrate(stores.postgresUrl(null)),
      migrate(stores.postgresUrl('/no/ca.pem')),
      run('worker.mjs', [], { REDIS_CA_FILE: '/no/ca.pem' }),
      run('worker.mjs', [], { REDIS_CA_FILE: stores.otherCaFile }, 'REDIS_URL cannot be trusted'),
    ]);
    expect(unknown).toMatchObject({ code: 1, output: expect.stringContaining('sslrootcert=FILE') });
    expect(missing).toMatchObject({ code: 1, output: expect.stringMatching(/cannot be read.*ca\.pem/) });
    expect(unreadable).toMatchObject({ code: 1, output: expect.stringContaining('REDIS_CA_FILE') });
    expect(redis.output).toContain('(REDIS_CA_FILE)');
  });
});

/** Starts a program. It ends by itself, or is killed when it has said `until`. */
async function run(program: string, args: string[], env: Record<string, string>, until?: string) {
  const child = spawn(process.execPath, [join(PROJECT, 'dist/programs', program), ...args], {
    cwd: PROJECT,
    env: {
      ...process.env,
      ADMIN_API_KEY: 'a'.repeat(32),
      INTERNAL_API_KEY: 'b'.repeat(32),
      APP_KEY: 'c'.repeat(64),
      ENV_FILE: 'none',
      PORT: '0',
      DATABASE_URL: stores.poolerUrl('session'),
      REDIS_URL: stores.redisUrl,
      REDIS_CA_FILE: stores.caFile,
      ...env,
    },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (until !== undefined && output.includes(until)) child.kill('SIGKILL');
    });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, output };
}

describe('a pooler that gives every transaction another session', () => {
  it.each(['transaction', 'transaction_of_one', 'statement'] as const)(
    'is refused at the start with the cure, also when nobody else uses it: %s',
    async (mode) => {
      for (const order of [0, 1]) {
        await stores.setPooler(`server_round_robin = ${order}`);
        const { code, output } = await run('cli.mjs', ['migrate'], { DATABASE_URL: stores.poolerUrl(mode) });
        expect(code).toBe(1);
        expect(output).toContain('Set pool_mode = session');
      }
    },
  );

  it('stops each program at once', async () => {
    const ends = await Promise.all(
      ['api.mjs', 'worker.mjs', 'scheduler.mjs'].map((program) =>
        run(program, [], { DATABASE_URL: stores.poolerUrl('transaction') }),
      ),
    );
    for (const { code, output } of ends) {
      expect(code).toBe(1);
      expect(output).toContain('Set pool_mode = session');
    }
  });
});
