import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ValidationFailed } from '../../src/platform/errors/problem.js';
import { AddressNotPublic } from '../../src/platform/http/public-fetch.js';
import {
  credentialsInUrl,
  masked,
  parseProxyUrl,
  withLogin,
  withoutCredentials,
} from '../../src/platform/http/proxy-url.js';

describe('the URL of a proxy', () => {
  it.each([
    ['http://proxy.example.com:3128', 'http', 'proxy.example.com', 3128],
    ['HTTP://Proxy.Example.COM/', 'http', 'proxy.example.com', 80],
    ['http://proxy.example.com:80', 'http', 'proxy.example.com', 80],
    ['https://proxy.example.com', 'https', 'proxy.example.com', 443],
    ['https://proxy.example.com:80', 'https', 'proxy.example.com', 80],
    ['socks5://proxy.example.com', 'socks5', 'proxy.example.com', 1080],
    ['socks5://8.8.8.8:9', 'socks5', '8.8.8.8', 9],
    ['socks5://0x08080808:9', 'socks5', '8.8.8.8', 9],
    ['http://[2606:4700::1111]:65535', 'http', '2606:4700::1111', 65535],
    ['http://bücher.example:1', 'http', 'xn--bcher-kva.example', 1],
  ])('%s names scheme, host and port', (url, scheme, host, port) => {
    const proxy = parseProxyUrl(url, []);
    expect(proxy).toEqual({ scheme, host, port, credentials: null });
    expect(parseProxyUrl(withoutCredentials(proxy), [])).toEqual(proxy);
  });

  it('takes any user and password without control characters, and gives them back', () => {
    const word = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(word, fc.oneof(word, fc.constant('')), (user, password) => {
        fc.pre(![user, password].some((text) => /[\0-\x1f\x7f]/.test(text) || text === '********'));
        const url = withLogin('socks5://proxy.example.com:1080', credentialsInUrl({ user, password }));
        expect(parseProxyUrl(url, []).credentials).toEqual({ user, password });
        expect(masked(url, false)).toBe('socks5://********:********@proxy.example.com:1080');
      }),
    );
  });

  const secret = 'hunter2';
  it.each([
    ['', 'must begin with'],
    ['proxy.example.com:80', 'must begin with'],
    ['ftp://proxy.example.com', 'must begin with'],
    ['socks4://proxy.example.com', 'must begin with'],
    ['http://', 'must begin with'],
    [`http://u:${secret}@proxy.example.com/path`, 'no path'],
    [`http://u:${secret}@proxy.example.com//`, 'no path'],
    [`http://u:${secret}@proxy.example.com?q`, 'no path'],
    [`http://u:${secret}@proxy.example.com#f`, 'no path'],
    [`http://u:${secret}@proxy.example.com;direct://`, 'no path'],
    [`http://u:${secret}@proxy.example.com,other.example.com`, 'no path'],
    [`http://u:${secret}@proxy.example.com http://other`, 'no path'],
    [`http://u:${secret}@proxy.example.com\n`, 'no path'],
    [`http://u:${secret}@proxy.example.com\0`, 'no path'],
    [`http://u:${secret}@proxy.example.com\\x`, 'no path'],
    [`http://u:${secret}@one@proxy.example.com`, 'at most one "@"'],
    [`http://u:${secret}@proxy.example.com:0`, 'valid host and a port'],
    [`http://u:${secret}@proxy.example.com:65536`, 'valid host and a port'],
    [`http://u:${secret}@proxy.example.com:`, 'valid host and a port'],
    [`http://u:${secret}@proxy.example.com:80:80`, 'valid host and a port'],
    [`http://u:${secret}@proxy.example.com:port`, 'valid host and a port'],
    [`http://u:${secret}@`, 'valid host and a port'],
    [`http://u:${secret}@[::1`, 'valid host and a port'],
    [`http://u:${secret}@[fe80::1%25eth0]`, 'valid host and a port'],
    [`http://u:${secret}@1.2.3.4.5`, 'valid host and a port'],
    [`http://:${secret}@proxy.example.com`, 'a password but no user'],
    [`http://u:${secret}%zz@proxy.example.com`, 'percent-encoded'],
    [`http://u:${secret}%0d%0aX-A:%20b@proxy.example.com`, 'percent-encoded'],
    [`http://u%3av:${secret}@proxy.example.com`, 'user without ":"'],
    [`http://u:${secret.repeat(40)}@proxy.example.com`, 'at most 255 bytes'],
    ['http://********:********@proxy.example.com', 'masked credentials of an answer'],
    [`http://u:${secret}@${'x'.repeat(2_048)}`, 'at most 2048 characters'],
  ])('%j is refused: %s', (url, why) => {
    const refuse = () => parseProxyUrl(url, []);
    expect(refuse).toThrow(ValidationFailed);
    expect(refuse).toThrow(why);
    expect(refuse).not.toThrow(secret);
  });

  it.each(
    [
      ...['0.0.0.0', '10.0.0.1', '100.64.0.1', '127.0.0.1', '169.254.169.254', '172.16.0.1', '192.168.1.1'],
      ...[
        '168.63.129.16',
        '100.100.100.200',
        '224.0.0.1',
        '255.255.255.255',
        '2130706433',
        '0x7f.1',
        '017700000001',
      ],
      ...['0177.0.0.1', '127.1', '127.0.0.1.', '[::]', '[::1]', '[::ffff:127.0.0.1]', '[::ffff:8.8.8.8]'],
      ...[
        '[64:ff9b::7f00:1]',
        '[64:ff9b:1::a00:1]',
        '[2002:7f00:1::]',
        '[fe80::1]',
        '[fc00::1]',
        '[fd00:ec2::254]',
      ],
      ...['[ff02::1]', '[2001::1]', '[2001:db8::1]', '①②⑦.0.0.1', '%31%32%37.0.0.1'],
    ].flatMap((host) => ['http', 'https', 'socks5'].map((scheme) => `${scheme}://u:p@${host}:8080`)),
  )('%s is refused as a URL of a webhook is', (url) => {
    expect(() => parseProxyUrl(url, [])).toThrow(AddressNotPublic);
  });

  it('may have the private addresses that the operator allows', () => {
    expect(parseProxyUrl('socks5://10.1.2.3', ['10.1.0.0/16']).host).toBe('10.1.2.3');
    expect(() => parseProxyUrl('socks5://10.2.2.3', ['10.1.0.0/16'])).toThrow(AddressNotPublic);
  });
});
