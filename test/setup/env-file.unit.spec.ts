import { chmodSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ensureEnvFile, readEnvFile, secrets } from '../../setup/env-file.mjs';
import { PROJECT, readSettings } from '../../setup/settings.mjs';

const example = join(PROJECT, '.env.example');
let directory: string;
let file: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'env-file-'));
  file = join(directory, '.env');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const ensure = (environment: Record<string, string> = {}) => ensureEnvFile({ file, example, environment });

describe('.env', () => {
  it('is made from .env.example with fresh secrets, readable by its owner only', () => {
    expect(ensure()).toBe('created');
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(directory)).toEqual(['.env']);
    const made = readEnvFile(file);
    for (const name of Object.keys(secrets)) expect(made[name], name).toMatch(/^\S{20,}$/);
    expect(Buffer.from(made['APP_KEY'] ?? '', 'base64')).toHaveLength(32);
    expect(made['PORT']).toBe('3000');
    expect(made['DATABASE_URL']).toBe('');
    expect(readFileSync(file, 'utf8')).toContain('# Where the API listens');

    rmSync(file);
    ensure();
    expect(readEnvFile(file)['ADMIN_API_KEY']).not.toBe(made['ADMIN_API_KEY']);
  });

  it('is not changed the second time', () => {
    ensure();
    const before = readFileSync(file, 'utf8');
    expect(ensure()).toBe('unchanged');
    expect(readFileSync(file, 'utf8')).toBe(before);
  });

  it('keeps what the user wrote and only gains the secrets that it lacks', () => {
    writeFileSync(file, '# mine\nPORT=4000\nADMIN_API_KEY=chosen\nAPP_KEY=  # later\nOTHER="a b"');
    chmodSync(file, 0o644);
    expect(ensure()).toBe('completed');
    const text = readFileSync(file, 'utf8');
    expect(text).toMatch(/^# mine\nPORT=4000\nADMIN_API_KEY=chosen\nAPP_KEY=\S{44}\nOTHER="a b"\n/);
    expect(readEnvFile(file)).toMatchObject({ PORT: '4000', ADMIN_API_KEY: 'chosen', OTHER: 'a b' });
    expect(readEnvFile(file)['INTERNAL_API_KEY']).toBeTruthy();
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  it('gains no secret that the real environment sets', () => {
    writeFileSync(file, 'PORT=4000\n');
    ensure({ ADMIN_API_KEY: 'from outside' });
    expect(readEnvFile(file)).not.toHaveProperty('ADMIN_API_KEY');
  });
});

describe('settings', () => {
  it('come from the environment, then the file, then the defaults', () => {
    writeFileSync(file, 'PORT=4000\nINSTANCES=7\nVAR_DIR=elsewhere\n');
    const settings = readSettings({ project: directory, environment: { PORT: '5000', npm_config_x: 'y' } });
    expect(settings).toMatchObject({
      port: 5000,
      instances: 7,
      workers: 1,
      varDir: join(directory, 'elsewhere'),
    });
    expect(settings.environment).toEqual({ PORT: '5000' });
  });

  it('ignore the file with ENV_FILE=none', () => {
    writeFileSync(file, 'PORT=4000\n');
    expect(readSettings({ project: directory, environment: { ENV_FILE: 'none' } }).port).toBe(3000);
  });

  it('name the value that is wrong and where it stands', () => {
    writeFileSync(file, 'PORT=many\n');
    expect(() => readSettings({ project: directory, environment: {} })).toThrow(
      `PORT is "many" in ${file}: set it to a whole number from 1 to 65535.`,
    );
  });

  it('are all documented in .env.example', () => {
    const documented = readFileSync(example, 'utf8');
    const source = readFileSync(join(PROJECT, 'setup/settings.mjs'), 'utf8');
    for (const [, name] of source.matchAll(/(?:text|number)\('([A-Z_]+)'/g)) {
      expect(documented).toMatch(new RegExp(`^${name}=`, 'm'));
    }
  });
});
