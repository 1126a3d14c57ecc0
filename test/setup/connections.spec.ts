import { expect, it } from 'vitest';
import { checkPostgres, checkRedis } from '../../setup/connections.mjs';
import { loadConfig } from '../../src/platform/config/config.js';

it('the servers of npm test answer', async () => {
  const { database, redis } = loadConfig(process.env);
  await checkPostgres(database.url);
  await checkRedis(redis.url);
  const wrong = new URL(database.url);
  wrong.pathname = '/nowhere';
  await expect(checkPostgres(wrong.href)).rejects.toThrow('has no database "nowhere"');
  wrong.password = 'wrong';
  await expect(checkPostgres(wrong.href)).rejects.toThrow('refuses the user "flotilla"');
});
