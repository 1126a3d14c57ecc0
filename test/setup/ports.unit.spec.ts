import { createServer, type AddressInfo, type Server } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { checkPorts, findFreePorts, portsOf } from '../../setup/ports.mjs';
import { pidListeningOn } from '../../setup/processes.mjs';
import { readSettings } from '../../setup/settings.mjs';

let server: Server | undefined;
const listen = () =>
  new Promise<number>((resolve) => {
    server = createServer().listen(0, '127.0.0.1', () => resolve((server?.address() as AddressInfo).port));
  });
afterEach(() => server?.close());

const use = (port: number, name = 'API', setting = 'PORT') => ({ name, setting, host: '127.0.0.1', port });

describe('ports', () => {
  it('finds who listens', async () => {
    expect(pidListeningOn(await listen())).toBe(process.pid);
    expect(pidListeningOn(1)).toBeUndefined();
  });

  it('says who has a port and how to cure it', async () => {
    const port = await listen();
    await expect(checkPorts([use(port)])).rejects.toThrow(
      new RegExp(
        `^Port ${port} \\(API\\) is in use by pid ${process.pid} \\(.+\\)\\. Stop it or set PORT in \\.env\\.$`,
      ),
    );
  });

  it('accepts free ports and leaves them free', async () => {
    const first = await findFreePorts(3);
    const uses = [use(first), use(first + 1), use(first + 2)];
    await checkPorts(uses);
    await checkPorts(uses);
  });

  it('says when two programs are given the same port', async () => {
    await expect(checkPorts([use(3000), use(3000, 'sandbox', 'SANDBOX_PORT')])).rejects.toThrow(
      'Port 3000 is set for both the API and the sandbox. Change PORT or SANDBOX_PORT in .env.',
    );
  });

  it('needs no port for a PostgreSQL or Redis that is elsewhere', () => {
    const environment = { ENV_FILE: 'none', INSTANCES: '2', SANDBOX: 'true' };
    const ports = (more = {}) =>
      portsOf(readSettings({ environment: { ...environment, ...more } })).map(({ port }) => port);
    expect(ports()).toEqual([3000, 3001, 3002, 8443, 3090, 54320, 63790]);
    expect(ports({ DATABASE_URL: 'postgresql://x', REDIS_URL: 'redis://x' })).toEqual([
      3000, 3001, 3002, 8443, 3090,
    ]);
  });
});
