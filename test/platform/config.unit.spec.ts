import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import ts from 'typescript';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readSettings } from '../../setup/settings.mjs';
import {
  InvalidConfiguration,
  loadConfig,
  maskConfig,
  projectRoot,
  secretsOf,
} from '../../src/platform/config/config.js';
import { masking } from '../../src/platform/logging/logger.js';
import { secrets } from '../support/settings.js';

describe('the configuration', () => {
  it('derives the embedded databases when no URL is given', () => {
    const config = loadConfig({
      ...secrets,
      EMBEDDED_PASSWORD: 'p/w',
      EMBEDDED_POSTGRES_PORT: '5000',
      DATABASE_URL: '',
    });
    expect(config.database.url).toBe('postgresql://flotilla:p%2Fw@127.0.0.1:5000/flotilla');
    expect(config.redis.url).toContain('127.0.0.1:63790');
  });

  it('gives campaigns a share by default; the share may be 0', () => {
    expect(loadConfig(secrets).worker.campaignShare).toBe(0.05);
    expect(loadConfig({ ...secrets, CAMPAIGN_SHARE: '0' }).worker.campaignShare).toBe(0);
  });

  it('names every wrong variable, and the cure', () => {
    const load = () => loadConfig({ ...secrets, PORT: 'http', WORKER_CONCURRENCY: '0', APP_KEY: 'short' });
    expect(load).toThrow(InvalidConfiguration);
    for (const word of ['PORT', 'WORKER_CONCURRENCY', 'APP_KEY', '.env.example']) expect(load).toThrow(word);
  });

  it('prefers the real environment to the file', () => {
    const folder = mkdtempSync(join(tmpdir(), 'flotilla-config-'));
    try {
      const file = join(folder, 'env');
      writeFileSync(file, 'PORT=4000\nLOG_LEVEL=warn\n');
      expect(loadConfig({ ...secrets, ENV_FILE: file, PORT: '4001' })).toMatchObject({
        http: { port: 4001 },
        logLevel: 'warn',
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('masks secrets unless asked to show them', () => {
    const config = loadConfig({
      ...secrets,
      DATABASE_URL: 'postgresql://u:hunter2@db/x',
      REDIS_URL: 'redis://:hunter3@r',
    });
    const shown = JSON.stringify(maskConfig(config));
    for (const hidden of [
      secrets.ADMIN_API_KEY,
      secrets.INTERNAL_API_KEY,
      secrets.APP_KEY,
      'hunter2',
      'hunter3',
    ]) {
      expect(shown).not.toContain(hidden);
    }
  });

  it('keeps every secret out of the lines of a log', () => {
    const kept = {
      ...secrets,
      APP_PREVIOUS_KEYS: `${'p'.repeat(32)},"${'q'.repeat(32)}`,
      METRICS_TOKEN: 'metrics-token-of-this-test',
      MEDIA_S3_BUCKET: 'media',
      MEDIA_S3_ACCESS_KEY_ID: 'id',
      MEDIA_S3_SECRET_ACCESS_KEY: 's3-secret-of-this-test',
      DATABASE_URL: 'postgresql://u:pass%2Fword-of-this-test@db/x',
      EMBEDDED_PASSWORD: 'embedded-password-of-this-test',
    };
    const mask = masking(secretsOf(loadConfig(kept)));
    const hidden = [
      kept.ADMIN_API_KEY,
      kept.INTERNAL_API_KEY,
      kept.APP_KEY,
      'p'.repeat(32),
      `"${'q'.repeat(32)}`,
      kept.METRICS_TOKEN,
      kept.MEDIA_S3_SECRET_ACCESS_KEY,
      'pass/word-of-this-test',
      'pass%2Fword-of-this-test',
      kept.EMBEDDED_PASSWORD,
      `flk_${'k'.repeat(43)}`,
      `whsec_${'k'.repeat(20)}+/${'k'.repeat(20)}=`,
    ];
    for (const secret of hidden) {
      const line = mask(JSON.stringify({ msg: `before ${secret} after` }));
      expect(JSON.parse(line)).toEqual({ msg: 'before [redacted] after' });
    }
    const url = 'cannot reach redis://:short@cache:6379/0 nor http://proxy:word@10.0.0.1:3128';
    expect(mask(url)).toBe(
      'cannot reach redis://:[redacted]@cache:6379/0 nor http://proxy:[redacted]@10.0.0.1:3128',
    );
    const harmless =
      '{"msg":"listening on http://127.0.0.1:3000/x@y, 10:30:00","url":"http://[::1]:3000/a:b@c"}';
    expect(mask(harmless)).toBe(harmless);
  });
});

describe('trusted proxies and origins', () => {
  it('are only this machine by default', () => {
    const { http } = loadConfig({ ...secrets });
    expect(http).toMatchObject({ trustedProxies: ['loopback'], corsOrigins: [], docsAccess: 'admin' });
    expect(loadConfig({ ...secrets, TRUSTED_PROXIES: '' }).http.trustedProxies).toEqual([]);
    expect(loadConfig({ ...secrets, NODE_ENV: 'development' }).http.docsAccess).toBe('public');
    expect(loadConfig({ ...secrets, NODE_ENV: 'development', DOCS_ACCESS: 'admin' }).http.docsAccess).toBe(
      'admin',
    );
  });

  it('are separated by commas', () => {
    const lists = {
      TRUSTED_PROXIES: 'loopback, 10.0.0.0/8,2001:db8::/32, 192.0.2.1',
      CORS_ORIGINS: 'https://app.example.com, http://localhost:5173',
    };
    const { http } = loadConfig({ ...secrets, ...lists });
    expect(http.trustedProxies).toEqual(['loopback', '10.0.0.0/8', '2001:db8::/32', '192.0.2.1']);
    expect(http.corsOrigins).toEqual(['https://app.example.com', 'http://localhost:5173']);
  });

  it.each([
    ['TRUSTED_PROXIES', 'true'],
    ['TRUSTED_PROXIES', '10.0.0.0/33'],
    ['TRUSTED_PROXIES', '0.0.0.0/0'],
    ['TRUSTED_PROXIES', '10.0.0.0/8/8'],
    ['CORS_ORIGINS', '*'],
    ['CORS_ORIGINS', 'https://app.example.com/'],
    ['CORS_ORIGINS', 'app.example.com'],
    ['CORS_ORIGINS', 'null'],
    ['METRICS_TOKEN', 'short'],
    ['RATE_LIMIT_PER_KEY', '-1'],
    ['HEADERS_TIMEOUT_MS', '400000'],
  ])('%s cannot be %s', (name, value) => {
    expect(() => loadConfig({ ...secrets, [name]: value })).toThrow(name);
  });
});

describe('the sandbox', () => {
  it.each([
    ['production', undefined, false],
    ['production', '', false],
    ['production', 'true', true],
    ['development', undefined, true],
    ['development', 'false', false],
    [undefined, undefined, false],
  ])('with NODE_ENV=%s and SANDBOX=%s is on: %s', (NODE_ENV, SANDBOX, isOn) => {
    const environment = { ...secrets, NODE_ENV, SANDBOX };
    expect(loadConfig(environment).sandbox.isOn).toBe(isOn);
    expect(readSettings({ environment }).programs.includes('sandbox')).toBe(isOn);
  });
});

describe("a server's name", () => {
  const nameless = { ...secrets, SERVER_ID: undefined };
  let varDir: string;
  beforeEach(() => {
    varDir = mkdtempSync(join(tmpdir(), 'flotilla-identity-'));
  });
  afterEach(() => rmSync(varDir, { recursive: true }));

  const idFrom = (environment: NodeJS.ProcessEnv) =>
    loadConfig({ ...nameless, VAR_DIR: varDir, ...environment }).server.id;

  it('comes from the most explicit variable', () => {
    const sources = {
      SERVER_ID: 'server-sg-1',
      RAILWAY_STATIC_URL: 'project-production.up.railway.app',
      RAILWAY_SERVICE_NAME: 'whatsapp',
      HOSTNAME: 'host-1',
    };
    const names = Object.keys(sources) as (keyof typeof sources)[];
    names.forEach((name, index) => {
      const unset = Object.fromEntries(
        names.slice(0, index).map((other) => [other, index % 2 ? '' : undefined]),
      );
      expect(idFrom({ ...sources, ...unset })).toBe(sources[name]);
    });
  });

  it('names its instances and workers', () => {
    const config = loadConfig({ ...secrets, INSTANCE_NUMBER: '3', WORKER_NAME: 'worker_01' });
    expect([config.instance.id, config.worker.name]).toEqual([
      'test-server.instance_03',
      'test-server.worker_01',
    ]);
  });

  it('is made once and kept if no variable is set', () => {
    const id = idFrom({});
    expect(id).toMatch(/^server-\d{13}-[0-9a-f]{8}$/);
    expect(idFrom({})).toBe(id);
    expect(readFileSync(join(varDir, 'server-id'), 'utf8').trim()).toBe(id);
    expect(idFrom({ SERVER_ID: 'explicit-one' })).toBe('explicit-one');
    expect(idFrom({})).toBe(id);
  });

  it('is the same for programs that start at the same moment', async () => {
    const module = join(varDir, 'server-id.mjs');
    const source = readFileSync(join(projectRoot, 'src/platform/config/server-id.ts'), 'utf8');
    const options = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
    writeFileSync(module, ts.transpileModule(source, { compilerOptions: options }).outputText);
    const rounds = 20;
    const program = `
      import { resolveServerId } from ${JSON.stringify(module)};
      for (let round = 0; round < ${rounds}; round += 1) {
        while (Date.now() < Number(process.argv[1]) + 20 * round);
        console.log(resolveServerId({}, ${JSON.stringify(varDir)} + '/' + round));
      }`;
    const startAt = String(Date.now() + 500);
    const runs = await Promise.all(
      Array.from({ length: 3 }, () =>
        promisify(execFile)(process.execPath, ['--input-type=module', '-e', program, startAt]),
      ),
    );
    const [first, ...others] = runs.map(({ stdout }) => stdout.trim().split('\n'));
    expect(first).toHaveLength(rounds);
    for (const other of others) expect(other).toEqual(first);
  });

  it.each([
    ['ab', '3 to 128 characters'],
    ['x'.repeat(129), '3 to 128 characters'],
    ['server 1', 'letters, digits'],
    ['server/1', 'letters, digits'],
    ['server..1', '".."'],
    ['http://server', '"//"'],
    ['admin', 'reserved word'],
    ['NULL', 'reserved word'],
  ])('"%s" is refused with the reason', (id, reason) => {
    for (const source of ['SERVER_ID', 'RAILWAY_STATIC_URL', 'HOSTNAME']) {
      const load = () => idFrom({ [source]: id });
      expect(load).toThrow(InvalidConfiguration);
      expect(load).toThrow(source);
      expect(load).toThrow(reason);
    }
  });

  it('leaves the other facts about a server undefined if they are not set', () => {
    const { server } = loadConfig({
      ...secrets,
      SERVER_TAGS: 'a, b,,',
      SERVER_PRIORITY: '-1',
      SERVER_URL: '',
    });
    expect(server).toMatchObject({ id: 'test-server', tags: ['a', 'b'], priority: -1 });
    expect([server.name, server.url, server.maxCapacity, server.weight]).toEqual(Array(4).fill(undefined));
  });

  it.each([
    [{ SERVER_URL: 'ftp://x' }, 'SERVER_URL: must be an http or https URL'],
    [{ SERVER_MAX_CAPACITY: '0' }, 'SERVER_MAX_CAPACITY'],
    [{ CAMPAIGN_SHARE: '0.6' }, 'CAMPAIGN_SHARE'],
    [{ INSTANCE_LEASE_MS: '5000' }, 'at least twice INSTANCE_RENEW_MS'],
    [{ INSTANCE_TAKEOVER_MARGIN_MS: '1000' }, 'longer than INSTANCE_RENEW_MS'],
  ])('%j is refused with the reason', (environment, reason) => {
    expect(() => loadConfig({ ...secrets, ...environment })).toThrow(reason);
  });
});
