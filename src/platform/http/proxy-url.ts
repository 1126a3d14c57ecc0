import { isIP } from 'node:net';
import { Problem, ValidationFailed } from '../errors/problem.js';
import { isPublicAddress } from './public-address.js';
import { AddressNotPublic } from './public-fetch.js';

/** The proxy of an account. */
export interface Proxy {
  scheme: 'http' | 'https' | 'socks5';
  /** A name, or an address in its usual notation. An IPv6 address has no brackets. */
  host: string;
  port: number;
  credentials: ProxyCredentials | null;
}

export interface ProxyCredentials {
  user: string;
  password: string;
}

const defaultPorts = { http: 80, https: 443, socks5: 1_080 };
const maxUrlLength = 2_048;
/** The limit of RFC 1929 for each of user and password. */
const maxCredentialBytes = 255;
/** What answers show instead of a user or a password. */
const mask = '********';
const isControl = /[\0-\x1f\x7f]/;

/**
 * Parses the URL of a proxy. Looks up no name.
 * @param allowPrivate ranges of private addresses that are allowed: `config.allowedPrivateAddresses`
 * @throws ValidationFailed; AddressNotPublic if the host is a literal private address
 */
export function parseProxyUrl(text: string, allowPrivate: readonly string[]): Proxy {
  const [, scheme, rest] = /^(https?|socks5):\/\/(.+)$/is.exec(text) ?? [];
  if (text.length > maxUrlLength) throw refused(`must be at most ${maxUrlLength} characters long`);
  if (!scheme || !rest) throw refused('must begin with http://, https:// or socks5://, then name a host');
  // Clients of the URL standard end a URL without a path with a slash.
  const authority = rest.replace(/\/$/, '');
  if (/[\s/\\?#;,<>"`|^{}]/.test(authority) || isControl.test(authority))
    throw refused(
      'must have only a scheme, a host, a port, and a user and password: no path, query, fragment, space, ";" or ",". Percent-encode such characters in the user and password',
    );
  const [place = '', login, ...more] = authority.split('@').reverse();
  if (more.length > 0)
    throw refused('must have at most one "@". Percent-encode this character in the user and password');
  const protocol = scheme.toLowerCase() as Proxy['scheme'];
  return {
    scheme: protocol,
    ...parsePlace(place, defaultPorts[protocol], allowPrivate),
    credentials: login === undefined ? null : parseCredentials(login, protocol),
  };
}

function parsePlace(
  place: string,
  defaultPort: number,
  allowPrivate: readonly string[],
): Pick<Proxy, 'host' | 'port'> {
  // Only for the schemes of the web, the standard converts other notations of an address, such as 2130706433 and 0x7f.1.
  const [, hostText, portText] = /^(\[[^\]]+\]|[^:[\]]+)(?::(\d{1,5}))?$/.exec(place) ?? [];
  const port = portText === undefined ? defaultPort : Number(portText);
  if (!hostText || !URL.canParse(`http://${hostText}`) || port < 1 || port > 65_535)
    throw refused('must have a valid host and a port from 1 to 65535');
  const host = new URL(`http://${hostText}`).hostname.replace(/^\[(.*)\]$/, '$1');
  if (isIP(host) !== 0 && !isPublicAddress(host, allowPrivate)) throw new AddressNotPublic(host);
  return { host, port };
}

function parseCredentials(login: string, scheme: Proxy['scheme']): ProxyCredentials {
  const [, userText = '', passwordText = ''] = /^([^:]*):?(.*)$/s.exec(login)!;
  const [user, password] = [decode(userText), decode(passwordText)];
  if (user === null || password === null)
    throw refused('has a user or password that is not percent-encoded UTF-8 without control characters');
  if (user === '') throw refused('has a password but no user');
  if (user === mask || password === mask)
    throw refused(
      `has the masked credentials of an answer. Send the user and password themselves, not ${mask}`,
    );
  if ([user, password].some((value) => Buffer.byteLength(value) > maxCredentialBytes))
    throw refused(`must have a user and a password of at most ${maxCredentialBytes} bytes each`);
  if (scheme !== 'socks5' && user.includes(':')) throw refused('must have a user without ":"');
  return { user, password };
}

function decode(text: string): string | null {
  try {
    const decoded = decodeURIComponent(text);
    return isControl.test(decoded) ? null : decoded;
  } catch {
    return null;
  }
}

/** The URL of a proxy without its user and password. */
export function withoutCredentials({ scheme, host, port }: Proxy): string {
  return `${scheme}://${place({ host, port })}`;
}

/** A user and password as a URL has them. {@link parseProxyUrl} reads them back. */
export function credentialsInUrl({ user, password }: ProxyCredentials): string {
  return `${encodeURIComponent(user)}:${encodeURIComponent(password)}`;
}

/** A URL of {@link withoutCredentials} with a user and password. */
export function withLogin(url: string, login: string): string {
  return url.replace('://', `://${login}@`);
}

/** A URL for an answer: a user and password are masked. Also takes the URLs of older rows, which have them in plain text. */
export function masked(url: string, hasCredentials: boolean): string {
  const bare = url.replace(/:\/\/.*@/s, '://');
  return hasCredentials || bare !== url ? withLogin(bare, `${mask}:${mask}`) : url;
}

/** `host:port`, with brackets around an IPv6 address. */
export function place({ host, port }: Pick<Proxy, 'host' | 'port'>): string {
  return `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
}

/** The message never has the URL: it may have a password. */
function refused(why: string): Problem {
  return new ValidationFailed([{ path: 'proxyUrl', message: `proxyUrl ${why}.` }]);
}
