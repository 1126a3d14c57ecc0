import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, readFileSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { Client } from 'pg';
import { generate } from 'selfsigned';
import { dropDatabase, query } from '../../setup/connections.mjs';
import { makeTemporaryDirectory } from '../../setup/isolated.mjs';
import { findFreePorts } from '../../setup/ports.mjs';
import { userNamed } from '../../setup/programs-user.mjs';
import { findPooler, findRedis } from '../../setup/system-packages.mjs';
import { eventually } from './eventually.js';

/** What a managed Redis forbids, and more: everything of its administration, and everything dangerous but INFO. */
const redisRules = '~* &* +@all -@admin -@dangerous +info';
const redisAdmin = { username: 'admin', password: 'admin-password' };
const redisUser = { username: 'flotilla', password: 'p@ss:word/1' };

/**
 * A PostgreSQL with TLS behind PgBouncer with TLS, and a Redis that has TLS only and users with few rights. PostgreSQL is the server of
 * `npm test`: with TLS it still serves the connections without TLS of the other tests. Only one test file may use this.
 */
export class DataStores {
  private readonly dir = makeTemporaryDirectory(undefined, 'flotilla-stores-');
  private readonly children: ChildProcess[] = [];
  private readonly database = `managed_${process.pid}_${Date.now()}`;
  private readonly ports = { pooler: 0, redis: 0 };
  /** PostgreSQL and PgBouncer refuse to run as root. */
  private readonly owner = process.getuid?.() === 0 ? userNamed('postgres') : undefined;
  private readonly server = new URL(process.env.DATABASE_URL!);

  static async start(): Promise<DataStores> {
    const stores = new DataStores();
    try {
      await stores.makeCertificates();
      await Promise.all([stores.startPostgres(), stores.startRedis()]);
      await stores.startPooler();
    } catch (error) {
      await stores.stop();
      throw error;
    }
    return stores;
  }

  /** The certificate of the CA, and that of a CA that signed nothing here. */
  get caFile(): string {
    return join(this.dir, 'ca.pem');
  }
  get otherCaFile(): string {
    return join(this.dir, 'other-ca.pem');
  }

  /** PostgreSQL without the pooler. */
  postgresUrl(caFile: string | null = this.caFile): string {
    return this.url(Number(this.server.port), this.database, caFile);
  }

  /** A database of PgBouncer. */
  poolerUrl(name: 'session' | 'transaction' | 'transaction_of_one' | 'statement'): string {
    return this.url(this.ports.pooler, name, this.caFile);
  }

  get redisUrl(): string {
    const { username, password } = redisUser;
    return `rediss://${username}:${encodeURIComponent(password)}@localhost:${this.ports.redis}`;
  }

  /** The commands that Redis has refused to the user of the URL. */
  async refusedCommands(): Promise<string[]> {
    const entries = (await this.askRedis(redisAdmin, ['acl', 'log'])) as string[][];
    return entries.map((entry) => entry[entry.indexOf('object') + 1]!);
  }

  /** Calls a command as the user of the URL. */
  callRedis(...command: [string, ...string[]]): Promise<unknown> {
    return this.askRedis(redisUser, command);
  }

  private async askRedis(user: typeof redisUser, [name, ...rest]: [string, ...string[]]): Promise<unknown> {
    const tls = { ca: readFileSync(this.caFile) };
    const redis = new Redis(this.ports.redis, 'localhost', { ...user, tls });
    try {
      return await redis.call(name, ...rest);
    } finally {
      redis.disconnect();
    }
  }

  /** Whether each connection of programs to the database is encrypted, and how many there are. */
  async encrypted(): Promise<{ connections: number; encrypted: number }> {
    const [row] = await query<{ connections: number; encrypted: number }>(this.superuser, [
      `select count(*)::int as connections, count(*) filter (where s.ssl)::int as encrypted
       from pg_stat_activity a join pg_stat_ssl s using (pid) where a.datname = '${this.database}'`,
    ]);
    return row!;
  }

  /** Changes a setting of PgBouncer while it runs. */
  async setPooler(setting: string): Promise<void> {
    const admin = new Client({ connectionString: this.url(this.ports.pooler, 'pgbouncer', this.caFile) });
    await admin.connect();
    await admin.query(`set ${setting}`);
    await admin.end();
  }

  async stop(): Promise<void> {
    for (const child of this.children) {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL');
        await once(child, 'exit');
      }
    }
    await query(this.superuser, [
      'alter system reset ssl',
      'alter system reset ssl_cert_file',
      'alter system reset ssl_key_file',
      'select pg_reload_conf()',
    ]);
    await dropDatabase(this.server.href, this.database);
    await rm(this.dir, { recursive: true, force: true });
  }

  private url(port: number, database: string, caFile: string | null): string {
    const url = new URL(this.server);
    // The name of the certificate.
    url.hostname = 'localhost';
    url.port = String(port);
    url.pathname = `/${database}`;
    url.searchParams.set('sslmode', 'verify-full');
    if (caFile) url.searchParams.set('sslrootcert', caFile);
    return url.href;
  }

  private get superuser(): string {
    const url = new URL(this.server);
    url.username = 'postgres';
    url.pathname = '/postgres';
    return url.href;
  }

  private async makeCertificates(): Promise<void> {
    const options = { keyType: 'ec', curve: 'P-256', algorithm: 'sha256' } as const;
    const caOptions = {
      ...options,
      extensions: [
        { name: 'basicConstraints' as const, cA: true, critical: true },
        { name: 'keyUsage' as const, keyCertSign: true, critical: true },
      ],
    };
    const [ca, other] = await Promise.all(
      ['Test CA', 'Another CA'].map((value) => generate([{ name: 'commonName', value }], caOptions)),
    );
    const server = await generate([{ name: 'commonName', value: 'localhost' }], {
      ...options,
      ca: { key: ca!.private, cert: ca!.cert },
      extensions: [{ name: 'subjectAltName', altNames: [{ type: 2, value: 'localhost' }] }],
    });
    await writeFile(this.caFile, ca!.cert);
    await writeFile(this.otherCaFile, other!.cert);
    await writeFile(join(this.dir, 'server.pem'), server.cert);
    await this.writeSecret('server.key', server.private);
  }

  /** Writes a file that only the user of the servers may read. */
  private async writeSecret(name: string, text: string): Promise<void> {
    const path = join(this.dir, name);
    await writeFile(path, text, { mode: 0o600 });
    if (this.owner?.uid !== undefined) chownSync(path, this.owner.uid, this.owner.gid!);
  }

  private async startPostgres(): Promise<void> {
    await query(this.superuser, [
      `alter system set ssl_cert_file = '${join(this.dir, 'server.pem')}'`,
      `alter system set ssl_key_file = '${join(this.dir, 'server.key')}'`,
      'alter system set ssl = on',
      'select pg_reload_conf()',
    ]);
    await query(this.server.href, [`create database ${this.database}`]);
    await eventually(
      'PostgreSQL has TLS',
      async () => (await query(this.postgresUrl(), ['select 1'])).length,
    );
  }

  private async startRedis(): Promise<void> {
    const port = (this.ports.redis = await findFreePorts());
    await this.writeSecret(
      'users.acl',
      `user default off
user ${redisAdmin.username} on >${redisAdmin.password} ~* &* +@all
user ${redisUser.username} on >${redisUser.password} ${redisRules}
`,
    );
    const file = (name: string) => join(this.dir, name);
    await this.spawn('redis', findRedis()!, [
      ...['--port', '0', '--tls-port', String(port), '--bind', '127.0.0.1', '--save', ''],
      ...['--tls-cert-file', file('server.pem'), '--tls-key-file', file('server.key')],
      ...['--tls-ca-cert-file', this.caFile, '--tls-auth-clients', 'no', '--aclfile', file('users.acl')],
    ]);
    await eventually('Redis answers', async () => (await this.refusedCommands()).length === 0);
  }

  private async startPooler(): Promise<void> {
    const port = (this.ports.pooler = await findFreePorts());
    const { username, password } = this.server;
    const file = (name: string) => join(this.dir, name);
    const target = `host=localhost port=${this.server.port} dbname=${this.database}`;
    await this.writeSecret('users.txt', `"${username}" "${decodeURIComponent(password)}"\n`);
    await this.writeSecret(
      'pgbouncer.ini',
      `[databases]
session = ${target} pool_mode=session
transaction = ${target} pool_mode=transaction
transaction_of_one = ${target} pool_mode=transaction pool_size=1
statement = ${target} pool_mode=statement
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = ${file('users.txt')}
admin_users = ${username}
default_pool_size = 80
client_tls_sslmode = require
client_tls_cert_file = ${file('server.pem')}
client_tls_key_file = ${file('server.key')}
server_tls_sslmode = verify-full
server_tls_ca_file = ${this.caFile}
`,
    );
    await this.spawn('pgbouncer', findPooler()!, [file('pgbouncer.ini')]);
    await eventually(
      'PgBouncer answers',
      async () => (await query(this.poolerUrl('session'), ['select 1'])).length,
    );
  }

  private async spawn(name: string, program: string, args: string[]): Promise<void> {
    const child = spawn(program, args, {
      cwd: '/',
      stdio: 'ignore',
      ...(this.owner ? { uid: this.owner.uid, gid: this.owner.gid } : {}),
    });
    await once(child, 'spawn');
    this.children.push(child);
  }
}
