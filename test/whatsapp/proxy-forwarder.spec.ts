import { execFile, spawn } from 'node:child_process';
import { promises } from 'node:dns';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { generate } from 'selfsigned';
import { afterEach, describe, expect, it } from 'vitest';
import { processStatus } from '../../src/platform/proc.js';
import { AddressNotPublic } from '../../src/platform/http/public-fetch.js';
import { ProxyForwarder, type ProxyForwarderOptions } from '../../src/whatsapp/browser/proxy-forwarder.js';
import type { Proxy } from '../../src/platform/http/proxy-url.js';
import { eventually } from '../support/eventually.js';
import { startNameServer } from '../support/name-server.js';
import { httpProxy, rawServer, socksProxy, type TestProxy } from '../support/proxies.js';

/* The forwarder between a browser and the proxy of its account. Here this process is the browser. */

const loopback = ['127.0.0.0/8', '::1/128'];
const credentials = { user: 'üser', password: 'pass:w@rd' };
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function closing<Closable extends { close: () => unknown }>(closable: Closable): Closable {
  closers.push(() => closable.close());
  return closable;
}

/** A forwarder, and what its operator reads. */
function forwarder(
  proxy: Partial<Proxy>,
  options: Partial<ProxyForwarderOptions> = {},
): { forwarder: ProxyForwarder; warnings: unknown[] } {
  const warnings: unknown[] = [];
  const made = closing(
    new ProxyForwarder({
      proxy: { scheme: 'http', host: '127.0.0.1', port: 1, credentials, ...proxy },
      allowPrivate: loopback,
      browserGroup: () => processStatus(process.pid)!.group,
      tunnelMs: 5_000,
      onWarning: (_message, error) => warnings.push(error),
      ...options,
    }),
  );
  return { forwarder: made, warnings };
}

/** A server that sends back what it gets. */
async function echo(): Promise<{ port: number; sockets: Set<Socket> }> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
    socket.pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as { port: number }).port, sockets };
}

/** Connects to a port of this machine. */
async function dial(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  closers.push(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** Asks a forwarder for a connection, as Chromium does. @returns the socket after the answer, and the answer */
async function ask(port: number, target: string): Promise<{ socket: Socket; answer: string }> {
  const socket = await dial(port);
  socket.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`);
  const answered = once(socket, 'data').catch(() => ['']);
  const [answer] = (await Promise.race([answered, once(socket, 'close').then(() => [''])])) as [
    Buffer | string,
  ];
  return { socket, answer: answer.toString() };
}

/** A port of this machine where nothing listens. */
async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

describe.each([
  ['http', httpProxy],
  ['socks5', socksProxy],
] as const)('a %s proxy', (scheme, startProxy) => {
  it('carries connections, and gets user, password and the name of the target', async () => {
    const { port: echoPort } = await echo();
    const proxy = closing(await startProxy({ ...credentials, portOf: () => echoPort }));
    const { forwarder: made, warnings } = forwarder({ scheme, port: proxy.port });
    const port = await made.listen();
    const connections = await Promise.all(
      Array.from({ length: 10 }, (_, index) => ask(port, `name-${index}.example:443`)),
    );
    for (const [index, { socket, answer }] of connections.entries()) {
      expect(answer).toBe('HTTP/1.1 200 Connection established\r\n\r\n');
      const text = `${index}`.repeat(100_000);
      socket.end(text);
      let back = '';
      for await (const chunk of socket) back += String(chunk);
      expect(back === text).toBe(true);
    }
    expect(proxy.targets.sort()).toEqual(connections.map((_, index) => `name-${index}.example:443`));
    expect([warnings, made.isFailing]).toEqual([[], false]);
  });

  it('without the right password gives no connection, and the log has no password', async () => {
    const proxy = closing(await startProxy({ ...credentials, password: 'other' }));
    const { forwarder: made, warnings } = forwarder({ scheme, port: proxy.port }, { tunnelMs: 300 });
    await expect(made.check()).rejects.toThrow('gives no connection');
    expect(proxy.targets).toEqual([]);
    expect(warnings).toHaveLength(1);
    const { message, stack, cause, ...rest } = warnings[0] as Error;
    expect(JSON.stringify([message, stack, cause, rest])).not.toContain(credentials.password);
    expect(message).toMatch(/407|Authentication/);
  });
});

describe('an https proxy', () => {
  it('must have a valid certificate for its name or address', async () => {
    const pems = await generate([{ name: 'commonName', value: 'proxy' }], {
      algorithm: 'sha256',
      extensions: [{ name: 'subjectAltName', altNames: [{ type: 7, ip: '127.0.0.1' }] }],
    });
    const tls = { key: pems.private, cert: pems.cert };
    const proxy = closing(await httpProxy(credentials, tls));
    const { forwarder: made, warnings } = forwarder({ scheme: 'https', port: proxy.port }, { tunnelMs: 300 });
    await expect(made.check()).rejects.toThrow('gives no connection');
    expect([String(warnings[0]), proxy.targets]).toEqual([expect.stringContaining('self-signed'), []]);

    // Node reads trusted certificates when a process starts.
    const dir = await mkdtemp(join(tmpdir(), 'proxy-'));
    closers.push(() => rm(dir, { recursive: true }));
    await writeFile(join(dir, 'ca.pem'), pems.cert);
    const script = `
      import { ProxyForwarder } from '#dist/src/whatsapp/browser/proxy-forwarder.js';
      await new ProxyForwarder({
        proxy: { scheme: 'https', host: '127.0.0.1', port: ${proxy.port}, credentials: ${JSON.stringify(credentials)} },
        allowPrivate: ['127.0.0.0/8'], browserGroup: () => undefined, tunnelMs: 10_000, onWarning: console.error,
      }).check();`;
    await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script], {
      env: { ...process.env, NODE_EXTRA_CA_CERTS: join(dir, 'ca.pem') },
    });
    expect(proxy.targets).toEqual(['web.whatsapp.com:443']);
  }, 30_000);
});

describe('the address of a proxy', () => {
  const inner = [
    ...['0.0.0.0', '10.0.0.1', '100.64.0.1', '100.100.100.200', '127.0.0.1', '127.255.255.254'],
    ...['169.254.169.254', '168.63.129.16', '172.16.0.1', '192.0.0.192', '192.168.1.1', '198.18.0.1'],
    ...['224.0.0.1', '240.0.0.1', '255.255.255.255', '::', '::1', '::ffff:127.0.0.1', '::ffff:7f00:1'],
    ...['::ffff:8.8.8.8', '::127.0.0.1', '64:ff9b::7f00:1', '64:ff9b:1::a00:1', '2002:7f00:1::', 'fe80::1'],
    ...['fec0::1', 'fc00::1', 'fd00:ec2::254', 'ff02::1', '2001::1', '2001:db8::1', '100::1', '5f00::1'],
  ];

  it('is never inside the network of the operator: no connection, one error, one duration', async () => {
    // It listens for everything that leads to this machine.
    const server = closing(await rawServer((socket) => socket.end()));
    closing(await startNameServer((name) => [inner[Number(name.split('.')[0])]!]));
    const tunnelMs = 500;
    const outcomes = await Promise.all(
      inner.flatMap((address, index) =>
        [address, `${index}.inner.test`].map(async (host) => {
          const scheme = index % 2 === 0 ? 'http' : 'socks5';
          const { forwarder: made, warnings } = forwarder(
            { scheme, host, port: server.port },
            { allowPrivate: [], tunnelMs },
          );
          const startedAt = performance.now();
          const error = await made.check().catch((failure: unknown) => failure);
          return { host, error: String(error), ms: performance.now() - startedAt, reason: warnings[0] };
        }),
      ),
    );
    expect(outcomes).toHaveLength(2 * inner.length);
    expect(outcomes.filter(({ reason }) => !(reason instanceof AddressNotPublic))).toEqual([]);
    expect(new Set(outcomes.map(({ error }) => error))).toEqual(
      new Set(['ProxyUnreachable: the proxy of this account gives no connection. Check proxyUrl.']),
    );
    expect(outcomes.filter(({ ms }) => ms < tunnelMs - 2)).toEqual([]);
    expect(server.connections()).toBe(0);
  });

  it('is checked at each connection, so DNS rebinding does not pass', async () => {
    const server = closing(await rawServer((socket) => socket.end()));
    // Public at the first lookup, private at the second. (192.0.2.1 stands for a public address: it leads nowhere.)
    const answers = ['192.0.2.1', '127.0.0.1'];
    const names = closing(
      await startNameServer((name) => (name === 'rebinding.test' ? [answers[asked]!] : [])),
    );
    let asked = 0;
    const [first] = await promises.resolve4('rebinding.test');
    asked = 1;
    expect(first).toBe('192.0.2.1');
    const { forwarder: made, warnings } = forwarder(
      { host: 'rebinding.test', port: server.port },
      { allowPrivate: [], tunnelMs: 300 },
    );
    await expect(made.check()).rejects.toThrow('gives no connection');
    expect(warnings).toEqual([expect.any(AddressNotPublic)]);
    // One lookup for one connection: there is no second lookup that could give another address.
    expect(names.asked()).toBe(2);
    expect(server.connections()).toBe(0);
  });
});

it('tells a caller nothing about what is wrong with a proxy, not even by its duration', async () => {
  const proxies: Record<string, { port: number }> = {
    closed: { port: await closedPort() },
    silent: closing(await rawServer(() => undefined)),
    'ends at once': closing(await rawServer((socket) => socket.destroy())),
    'is not a proxy': closing(await rawServer((socket) => socket.write('SSH-2.0-OpenSSH_9.6\r\n'))),
    'answers 502': closing(
      await rawServer((socket) => socket.end('HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n')),
    ),
    'wrong password': closing(await httpProxy({ ...credentials, password: 'other' })),
    'endless headers': closing(
      await rawServer((socket) => socket.write(`HTTP/1.1 200 OK\r\n${'X-Long: yes\r\n'.repeat(5_000)}`)),
    ),
  };
  const tunnelMs = 600;
  const outcomes = await Promise.all(
    Object.entries(proxies).flatMap(([what, { port }]) =>
      (['http', 'socks5', 'https'] as const).map(async (scheme) => {
        const { forwarder: made, warnings } = forwarder({ scheme, port }, { tunnelMs });
        const startedAt = performance.now();
        const error = String(await made.check().catch((failure: unknown) => failure));
        return {
          what,
          scheme,
          error,
          ms: performance.now() - startedAt,
          isFailing: made.isFailing,
          warnings,
        };
      }),
    ),
  );
  expect(new Set(outcomes.map(({ error }) => error)).size).toBe(1);
  expect(outcomes[0]!.error).toContain('proxy of this account gives no connection');
  expect(outcomes.filter(({ isFailing, warnings }) => !isFailing || warnings.length !== 1)).toEqual([]);
  const times = outcomes.map(({ ms }) => ms);
  expect(Math.min(...times)).toBeGreaterThan(tunnelMs - 2);
  expect(Math.max(...times) - Math.min(...times)).toBeLessThan(tunnelMs / 2);
});

describe('the port of a forwarder', () => {
  let proxy: TestProxy;
  const open = async (options: Partial<ProxyForwarderOptions> = {}) => {
    const { port: echoPort, sockets } = await echo();
    proxy = closing(await httpProxy({ ...credentials, portOf: () => echoPort }));
    const { forwarder: made } = forwarder({ port: proxy.port }, options);
    return { made, port: await made.listen(), sockets };
  };

  it('is for the processes of its browser', async () => {
    // A process group of its own, as each browser has.
    const browser = spawn(process.execPath, ['--eval', 'setInterval(() => {}, 1000)'], { detached: true });
    closers.push(() => browser.kill('SIGKILL'));
    const { port } = await open({ browserGroup: () => browser.pid });
    expect((await ask(port, 'web.whatsapp.com:443')).answer).toBe('');
    const { port: early } = await open({ browserGroup: () => undefined });
    expect((await ask(early, 'web.whatsapp.com:443')).answer).toBe('');
    expect(proxy.connections()).toBe(0);
  });

  it.each([
    ['GET http://web.whatsapp.com/ HTTP/1.1\r\nHost: web.whatsapp.com\r\n\r\n', /^HTTP\/1\.1 405 /],
    ['GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n', /^HTTP\/1\.1 405 /],
    ['CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n', /^$/],
    ['CONNECT a.example:443;b HTTP/1.1\r\nHost: x\r\n\r\n', /^$/],
    ['nonsense\r\n\r\n', /^HTTP\/1\.1 400 /],
  ])('takes nothing but CONNECT: %j', async (request, answer) => {
    const { port } = await open();
    const socket = await dial(port);
    socket.write(request);
    let back = '';
    for await (const chunk of socket) back += String(chunk);
    expect(back).toMatch(answer);
    expect(proxy.connections()).toBe(0);
  });

  it('takes 64 connections and no more', async () => {
    const { port } = await open();
    const many = await Promise.all(Array.from({ length: 80 }, () => ask(port, 'web.whatsapp.com:443')));
    expect(many.filter(({ answer }) => answer.startsWith('HTTP/1.1 200'))).toHaveLength(64);
    many.find(({ answer }) => answer !== '')!.socket.destroy();
    await eventually('room for one more', async () =>
      (await ask(port, 'web.whatsapp.com:443')).answer.startsWith('HTTP/1.1 200'),
    );
  });

  it('is closed with all its connections when the session ends, also those that wait for the proxy', async () => {
    const { made, port, sockets } = await open();
    const { socket } = await ask(port, 'web.whatsapp.com:443');
    await eventually('connected', () => sockets.size === 1);
    made.close();
    await once(socket, 'close');
    await eventually('closed at the target', () => sockets.size === 0);
    await expect(dial(port)).rejects.toThrow('ECONNREFUSED');
    await expect(made.listen()).rejects.toThrow();

    const silent = closing(await rawServer(() => undefined));
    const { forwarder: waiting } = forwarder({ port: silent.port }, { tunnelMs: 60_000 });
    const asked = ask(await waiting.listen(), 'web.whatsapp.com:443');
    const checked = waiting.check().catch((error: unknown) => String(error));
    await eventually('both wait', () => silent.connections() === 2);
    waiting.close();
    expect((await asked).answer).not.toContain('200');
    expect(await checked).toContain('gives no connection');
  });
});
