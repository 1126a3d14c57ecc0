import dns from 'node:dns';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Socket as TcpSocket } from 'node:net';
import { text } from 'node:stream/consumers';
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { generate } from 'selfsigned';
import { afterEach, describe, expect, it } from 'vitest';
import { isPublicAddress } from '../../src/platform/http/public-address.js';
import {
  AddressNotPublic,
  HostUnreachable,
  publicFetch,
  ResponseTooLarge,
  ResponseTooLate,
  toPublicUrl,
  UrlNotUsable,
} from '../../src/platform/http/public-fetch.js';
import { publicDownload } from '../../src/platform/http/public-download.js';
import { eventually } from '../support/eventually.js';
import { startNameServer } from '../support/name-server.js';

const loopback = ['127.0.0.0/8', '::1/128'];
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function server(answer: RequestListener): Promise<string> {
  const http = createServer(answer).listen(0, '127.0.0.1');
  await once(http, 'listening');
  closers.push(() => {
    http.closeAllConnections();
    http.close();
  });
  return `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
}

/** A server that sends bytes that no HTTP library would send. */
async function rawServer(answer: (socket: TcpSocket) => void): Promise<string> {
  const sockets = new Set<TcpSocket>();
  const tcp = createTcpServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    answer(socket);
  }).listen(0, '127.0.0.1');
  await once(tcp, 'listening');
  closers.push(() => {
    for (const socket of sockets) socket.destroy();
    tcp.close();
  });
  return `http://127.0.0.1:${(tcp.address() as AddressInfo).port}`;
}

async function nameServer(...answers: string[][]): Promise<{ asked: () => number }> {
  const server = await startNameServer(() => answers[Math.min(server.asked(), answers.length - 1)]!);
  closers.push(() => server.close());
  return server;
}

const get = (url: string, options: Partial<Parameters<typeof publicFetch>[1]> = {}) =>
  publicFetch(url, { method: 'GET', timeoutMs: 5_000, maxBytes: 1_000, allowPrivate: loopback, ...options });

describe('addresses', () => {
  it.each([
    ...['0.0.0.0', '0.1.2.3', '10.0.0.1', '100.64.0.1', '100.100.100.200', '127.0.0.1', '127.255.255.254'],
    ...['169.254.169.254', '172.16.0.1', '172.31.255.255', '192.0.0.192', '192.168.1.1', '198.18.0.1'],
    ...['224.0.0.1', '239.255.255.255', '240.0.0.1', '255.255.255.255', '168.63.129.16'],
    ...['::', '::1', 'fe80::1', 'fec0::1', 'fc00::1', 'fd00:ec2::254', 'ff02::1', '::ffff:127.0.0.1'],
    ...[
      '::ffff:7f00:1',
      '::ffff:8.8.8.8',
      '::127.0.0.1',
      '64:ff9b::7f00:1',
      '64:ff9b:1::a00:1',
      '2002:7f00:1::',
    ],
    ...['2001::1', '2001:db8::1', '100::1', '5f00::1', '', 'localhost', '1.2.3.4.5', 'fe80::1%eth0'],
  ])('%s is not public', (address) => {
    expect(isPublicAddress(address)).toBe(false);
  });

  it.each(['1.1.1.1', '8.8.8.8', '172.32.0.1', '100.128.0.1', '2606:4700::1111', '2a00:1450::1'])(
    '%s is public',
    (address) => {
      expect(isPublicAddress(address)).toBe(true);
    },
  );

  it('never treats a private IPv4 address as public, in any IPv6 notation', () => {
    const privateAddress = fc
      .tuple(fc.constantFrom([10], [127], [192, 168], [169, 254]), fc.array(fc.nat(255), { minLength: 4 }))
      .map(([start, rest]) => [...start, ...rest].slice(0, 4));
    fc.assert(
      fc.property(
        privateAddress,
        fc.constantFrom('::ffff:', '::', '64:ff9b::', '2002:'),
        ([a, b, c, d], wrap) => {
          const hex = `${((a! << 8) | b!).toString(16)}:${((c! << 8) | d!).toString(16)}`;
          return !isPublicAddress(`${wrap}${hex}${wrap === '2002:' ? '::' : ''}`);
        },
      ),
    );
  });

  it('allows the ranges of the operator, and no others', () => {
    expect(isPublicAddress('10.1.2.3', ['10.1.0.0/16'])).toBe(true);
    expect(isPublicAddress('::ffff:10.1.2.3', ['10.1.0.0/16'])).toBe(true);
    expect(isPublicAddress('10.2.2.3', ['10.1.0.0/16'])).toBe(false);
    expect(isPublicAddress('fd00::1', ['10.1.0.0/16'])).toBe(false);
  });
});

describe('URLs', () => {
  it.each(['', 'nonsense', '/path', 'ftp://example.com', 'file:///etc/passwd', 'javascript:alert(1)'])(
    '%s cannot be called',
    (url) => {
      expect(() => toPublicUrl(url, [])).toThrow(UrlNotUsable);
    },
  );

  it('must contain no credentials and must not be too long', () => {
    expect(() => toPublicUrl('https://user:pass@example.com', [])).toThrow('user name or password');
    expect(() => toPublicUrl('https://user@example.com', [])).toThrow('user name or password');
    expect(() => toPublicUrl(`https://example.com/${'x'.repeat(2_048)}`, [])).toThrow('longer than');
  });

  it.each(['http://127.0.0.1', 'http://0x7f.1', 'http://2130706433', 'http://0177.0.0.1', 'http://[::1]:80'])(
    '%s is this machine, in whatever notation',
    (url) => {
      expect(() => toPublicUrl(url, [])).toThrow(AddressNotPublic);
      expect(toPublicUrl(url, loopback).protocol).toBe('http:');
    },
  );
});

describe('a public fetch', () => {
  it('gives status, headers and body', async () => {
    const url = await server((request, response) => {
      response.writeHead(418, { 'x-seen': `${request.method} ${request.headers['x-sent']}` });
      request.pipe(response);
    });
    const answer = await get(url, { method: 'POST', headers: { 'x-sent': 'yes' }, body: 'hello' });
    expect(answer).toMatchObject({ status: 418, headers: { 'x-seen': 'POST yes' } });
    expect(await text(answer.body)).toBe('hello');
  });

  it('calls no name with a private address, not even if it also has public addresses', async () => {
    const calls: string[] = [];
    const port = new URL(await server((request) => calls.push(request.url!))).port;
    await nameServer(['127.0.0.1'], ['8.8.8.8', '127.0.0.1']);
    for (let time = 0; time < 2; time += 1) {
      await expect(get(`http://innocent.test:${port}/`, { allowPrivate: [] })).rejects.toThrow(
        AddressNotPublic,
      );
    }
    expect(calls).toEqual([]);
  });

  it('checks the addresses that it connects to, so DNS rebinding does not pass', async () => {
    const calls: string[] = [];
    const port = new URL(await server((request) => calls.push(request.url!))).port;
    // Public at the first lookup, private at the second. (192.0.2.1 stands for a public address: it leads nowhere.)
    const names = await nameServer(['192.0.2.1'], ['127.0.0.1']);
    const [first] = await dns.promises.resolve4('rebinding.test');
    expect(first).toBe('192.0.2.1');
    await expect(get(`http://rebinding.test:${port}/`, { allowPrivate: [] })).rejects.toThrow(
      AddressNotPublic,
    );
    expect(names.asked()).toBe(2);
    expect(calls).toEqual([]);
  });

  it('reports an unknown host', async () => {
    await nameServer([]);
    await expect(get('http://nobody.test/', { allowPrivate: [] })).rejects.toThrow('has no address');
  });

  it('follows no redirect', async () => {
    let calls = 0;
    const url = await server((_request, response) => {
      calls += 1;
      response.writeHead(302, { location: 'http://169.254.169.254/latest/meta-data/' }).end();
    });
    expect(await get(url)).toMatchObject({ status: 302 });
    expect(calls).toBe(1);
  });

  it('times out on a server that never answers', async () => {
    const url = await server(() => undefined);
    await expect(get(url, { timeoutMs: 200 })).rejects.toThrow(ResponseTooLate);
  });

  it('times out on a body that arrives too slowly', async () => {
    const url = await server((_request, response) => {
      const drip = setInterval(() => response.write('.'), 20);
      response.on('close', () => clearInterval(drip));
    });
    const { body } = await get(url, { timeoutMs: 400 });
    await expect(text(body)).rejects.toThrow(ResponseTooLate);
  });

  it('stops reading a body without end', async () => {
    let written = 0;
    const url = await server((_request, response) => {
      const more = () => {
        while (!response.destroyed && response.write('x'.repeat(16_384))) written += 16_384;
      };
      response.on('drain', more);
      more();
    });
    const { body } = await get(url);
    await expect(text(body)).rejects.toThrow(ResponseTooLarge);
    expect(written).toBeLessThan(64 * 1_024 * 1_024);
  });

  it('does not read an answer whose Content-Length is too large', async () => {
    const url = await rawServer((socket) =>
      socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n')),
    );
    await expect(get(url)).rejects.toThrow(ResponseTooLarge);
  });

  it('reports an answer that is shorter than its Content-Length', async () => {
    const url = await rawServer((socket) =>
      socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nshort')),
    );
    const { body } = await get(url);
    await expect(text(body)).rejects.toThrow(HostUnreachable);
  });

  it('reads no more of an answer than its Content-Length', async () => {
    const url = await rawServer((socket) =>
      socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more')),
    );
    const { body } = await get(url);
    expect(await text(body)).toBe('hello');
  });

  it('does not decompress', async () => {
    const bomb = gzipSync(Buffer.alloc(900_000));
    const url = await server((_request, response) =>
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(bomb),
    );
    const { body } = await get(url);
    expect((await text(body)).length).toBeLessThan(1_000);
  });

  it.each([
    ['nothing but noise', 'SSH-2.0-OpenSSH_9.6\r\n'],
    ['headers without end', `HTTP/1.1 200 OK\r\n${'X-Long: yes\r\n'.repeat(5_000)}`],
  ])('bears %s', async (_what, noise) => {
    const url = await rawServer((socket) => socket.once('data', () => socket.write(noise)));
    await expect(get(url)).rejects.toThrow(HostUnreachable);
  });

  it('reports that the connection was refused', async () => {
    const url = await server(() => undefined);
    await closers.pop()!();
    await expect(get(url)).rejects.toThrow('it refuses connections');
  });

  it('makes no call wait behind hanging calls to the same host', async () => {
    let hanging = 0;
    const url = await server((request, response) => {
      if (request.url === '/hangs') hanging += 1;
      else response.end('hello');
    });
    const abandoned = Array.from({ length: 100 }, () =>
      get(`${url}/hangs`, { timeoutMs: 60_000 }).catch((error: unknown) => error),
    );
    await eventually('all of them hang', async () => hanging === abandoned.length);
    expect(await text((await get(`${url}/answers`)).body)).toBe('hello');
    for (const close of closers.splice(0)) await close();
    expect((await Promise.all(abandoned)).every((error) => error instanceof HostUnreachable)).toBe(true);
  });
});

describe('a server with a certificate of its own', () => {
  const name = (commonName: string) => [{ name: 'commonName', value: commonName }];
  const loopbackName = [{ name: 'subjectAltName', altNames: [{ type: 7, ip: '127.0.0.1' }] }] as never;
  const otherName = [{ name: 'subjectAltName', altNames: [{ type: 2, value: 'hooks.intern' }] }] as never;
  const quick = { keyType: 'ec', curve: 'P-256', algorithm: 'sha256' } as const;

  async function tlsServer({ private: key, cert }: { private: string; cert: string }): Promise<string> {
    const https = createTlsServer({ key, cert }, (_request, response) => response.end('hello'));
    await once(https.listen(0, '127.0.0.1'), 'listening');
    closers.push(() => {
      https.closeAllConnections();
      https.close();
    });
    return `https://127.0.0.1:${(https.address() as AddressInfo).port}`;
  }
  const ask = async (url: string, caCertificate?: string) => text((await get(url, { caCertificate })).body);

  it('is called if its authority, or the certificate itself, is given, and no other', async () => {
    const authority = await generate(name('Own CA'), {
      ...quick,
      extensions: [{ name: 'basicConstraints', cA: true, critical: true }] as never,
    });
    const ca = { key: authority.private, cert: authority.cert };
    const [signed, misnamed, pinned, stranger] = await Promise.all([
      generate(name('a'), { ...quick, ca, extensions: loopbackName }),
      generate(name('b'), { ...quick, ca, extensions: otherName }),
      generate(name('c'), { ...quick, extensions: otherName }),
      generate(name('d'), { ...quick, extensions: loopbackName }),
    ]);
    const urls = await Promise.all([signed, misnamed, pinned].map(tlsServer));
    const [signedUrl, misnamedUrl, pinnedUrl] = urls as [string, string, string];
    for (const url of urls) {
      await expect(ask(url)).rejects.toThrow('an authority that is not known');
      await expect(ask(url, stranger.cert)).rejects.toThrow(HostUnreachable);
    }
    expect(await ask(signedUrl, ca.cert)).toBe('hello');
    await expect(ask(misnamedUrl, ca.cert)).rejects.toThrow('for another name');
    await expect(ask(pinnedUrl, ca.cert)).rejects.toThrow(HostUnreachable);
    // Pinned: the very certificate, under whatever name, also if an authority has signed it.
    expect(await ask(pinnedUrl, pinned.cert)).toBe('hello');
    expect(await ask(misnamedUrl, `${stranger.cert}\n${misnamed.cert}`)).toBe('hello');
    // A connection of one set of certificates does not serve another.
    await expect(ask(signedUrl)).rejects.toThrow(HostUnreachable);
  });
});

it('calls a server by its IPv6 address, also one that has no other', async () => {
  const http = createServer((_request, response) => response.end('six')).listen(0, '::1');
  await once(http, 'listening');
  closers.push(() => http.close());
  const url = `http://[::1]:${(http.address() as AddressInfo).port}/`;
  expect(await text((await get(url)).body)).toBe('six');
  await expect(get(url, { allowPrivate: ['127.0.0.0/8'] })).rejects.toThrow(AddressNotPublic);
  // A name with IPv6 only is looked up.
  await nameServer(['fd00::1']);
  await expect(get('http://six.test/', { allowPrivate: [] })).rejects.toThrow(AddressNotPublic);
});

describe('a public download', () => {
  const download = (url: string, options: Partial<Parameters<typeof publicDownload>[1]> = {}) =>
    publicDownload(url, {
      timeoutMs: 5_000,
      maxBytes: 1_000,
      allowPrivate: loopback,
      userAgent: 'Test/1',
      ...options,
    });

  it.each([
    ['gzip', gzipSync('hello')],
    ['X-GZIP', gzipSync('hello')],
    ['br', brotliCompressSync('hello')],
    ['deflate', deflateSync('hello')],
    ['deflate', deflateRawSync('hello')],
    ['br, gzip', gzipSync(brotliCompressSync('hello'))],
    ['identity', Buffer.from('hello')],
  ])('undoes the Content-Encoding %s', async (coding, bytes) => {
    const url = await server((_request, response) =>
      response.writeHead(200, { 'content-encoding': coding }).end(bytes),
    );
    expect(await text((await download(url)).body)).toBe('hello');
  });

  it.each([
    ['damaged', 'gzip', Buffer.from('no gzip'), 'damaged'],
    ['truncated', 'gzip', gzipSync('hello'.repeat(100)).subarray(0, 20), 'damaged'],
    ['damaged', 'br', Buffer.alloc(50, 255), 'damaged'],
    ['unknown', 'zstd', Buffer.from('x'), 'Content-Encoding zstd'],
    ['a chain', 'gzip, gzip, gzip, gzip', Buffer.from('x'), 'Content-Encoding gzip, gzip'],
    ['a bomb', 'gzip', gzipSync(Buffer.alloc(9_000_000)), 'longer than'],
    ['a bomb in a bomb', 'gzip, gzip', gzipSync(gzipSync(Buffer.alloc(900_000))), 'longer than'],
  ])('fails with an encoding that is %s (%s)', async (_what, coding, bytes, reason) => {
    const url = await server((_request, response) =>
      response.writeHead(200, { 'content-encoding': coding }).end(bytes),
    );
    const read = async () => text((await download(url, { maxBytes: 20_000 })).body);
    await expect(read()).rejects.toThrow(reason);
  });

  it('follows five redirects, relative ones too, and says where it has arrived', async () => {
    const seen: string[] = [];
    const url = await server((request, response) => {
      seen.push(`${request.url} ${request.headers['user-agent']}`);
      const hop = Number(/\d+$/.exec(request.url!)?.[0] ?? 0);
      if (hop === 5) response.end('here');
      else response.writeHead([301, 302, 303, 307, 308][hop]!, { location: `hop-${hop + 1}` }).end('there');
    });
    const answer = await download(`${url}/start#part`);
    expect(await text(answer.body)).toBe('here');
    expect(answer.url.pathname).toBe('/hop-5');
    expect(seen).toEqual(
      ['/start', 1, 2, 3, 4, 5].map((hop) => `${hop === '/start' ? hop : `/hop-${hop}`} Test/1`),
    );
  });

  it.each([
    ['/again', 'more than 5 redirects'],
    ['http://169.254.169.254/latest/meta-data/', 'not an address on the public internet'],
    ['http://[::ffff:10.0.0.1]/', 'not an address on the public internet'],
    ['//192.168.0.1/', 'not an address on the public internet'],
    ['file:///etc/passwd', 'https:// or http://'],
    ['http://', 'not a URL'],
  ])('does not follow a redirect to %s for ever, or inside', async (location, reason) => {
    let calls = 0;
    const url = await server((_request, response) => {
      calls += 1;
      response.writeHead(302, { location }).end();
    });
    await expect(download(url)).rejects.toThrow(reason);
    expect(calls).toBe(location === '/again' ? 6 : 1);
  });

  it('has one timeout for all redirects together', async () => {
    let calls = 0;
    const url = await server((_request, response) => {
      calls += 1;
      setTimeout(() => response.writeHead(302, { location: '/' }).end(), 150);
    });
    await expect(download(url, { timeoutMs: 400 })).rejects.toThrow(ResponseTooLate);
    expect(calls).toBeLessThan(4);
  });

  it('sends the login of the URL to its server, and to no other', async () => {
    const seen: (string | undefined)[] = [];
    const other = await server((request, response) => {
      seen.push(request.headers.authorization);
      response.end('other');
    });
    const url = await server((request, response) => {
      seen.push(request.headers.authorization);
      response.writeHead(302, { location: request.url === '/a' ? '/b' : `${other}/c` }).end();
    });
    const answer = await download(`${url.replace('://', '://j%C3%BCrgen:p%40ss@')}/a`);
    expect(await text(answer.body)).toBe('other');
    const login = `Basic ${Buffer.from('jürgen:p@ss').toString('base64')}`;
    expect(seen).toEqual([login, login, undefined]);
  });
});
