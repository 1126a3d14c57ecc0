import { createServer, type AddressInfo } from 'node:net';
import { describe, expect, it } from 'vitest';
import { checkPostgres, checkRedis } from '../../setup/connections.mjs';
import { findFreePorts } from '../../setup/ports.mjs';

/** A server that answers everything with the same bytes. */
async function answering(bytes: string) {
  const server = createServer((socket) => socket.on('error', () => {}).on('data', () => socket.write(bytes)));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { port: (server.address() as AddressInfo).port, close: () => server.close() };
}

describe('an unreachable', () => {
  it('DATABASE_URL is told by what is wrong with it', async () => {
    const port = await findFreePorts();
    await expect(checkPostgres('mysql://x')).rejects.toThrow(
      'DATABASE_URL is not a URL of the form postgresql://',
    );
    await expect(checkPostgres(`postgresql://u:p@127.0.0.1:${port}/d`)).rejects.toThrow(
      `Nothing answers at 127.0.0.1:${port} of DATABASE_URL. Start PostgreSQL there or correct the port.`,
    );
  });

  it('REDIS_URL is told by what is wrong with it', async () => {
    const port = await findFreePorts();
    await expect(checkRedis('http://x')).rejects.toThrow('REDIS_URL is not a URL of the form redis://');
    await expect(checkRedis(`redis://127.0.0.1:${port}`)).rejects.toThrow(
      `Nothing answers at 127.0.0.1:${port} of REDIS_URL. Start Redis there or correct the port.`,
    );
  });

  it('REDIS_URL with a wrong password is told as such', async () => {
    const server = await answering('-WRONGPASS invalid username-password pair\r\n');
    await expect(checkRedis(`redis://:no@127.0.0.1:${server.port}`)).rejects.toThrow(
      'refuses the password of REDIS_URL',
    );
    server.close();
  });
});
