import { type Config, loadConfig } from '../../src/platform/config/config.js';

/** What settings have no default for. */
export const secrets = {
  ENV_FILE: 'none',
  ADMIN_API_KEY: 'a'.repeat(32),
  INTERNAL_API_KEY: 'b'.repeat(32),
  APP_KEY: 'c'.repeat(44),
  SERVER_ID: 'test-server',
};

/** The settings of a program that needs neither PostgreSQL nor Redis. */
export function settings(env: NodeJS.ProcessEnv = {}): Config {
  return loadConfig({ ...secrets, ...env });
}
