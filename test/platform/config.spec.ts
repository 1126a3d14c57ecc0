import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { InvalidConfiguration, loadConfig, maskConfig } from '../../src/platform/config/config.js';

const secrets = {
  ENV_FILE: 'none',
  ADMIN_API_KEY: 'a'.repeat(32),
  INTERNAL_API_KEY: 'b'.repeat(32),
  APP_KEY: 'c'.repeat(44),
};

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

  it('names every variable that is wrong, and the cure', () => {
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

  it('shows no secret unless asked', () => {
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
});
