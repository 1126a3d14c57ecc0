import { promises as dns } from 'node:dns';
import type { IncomingHttpHeaders } from 'node:http';
import { isIP, type LookupFunction } from 'node:net';
import { X509Certificate } from 'node:crypto';
import { type Readable, Transform } from 'node:stream';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import { LRUCache } from 'lru-cache';
import { Agent, errors, request } from 'undici';
import { foreignText } from '../errors/foreign-text.js';
import { Problem } from '../errors/problem.js';
import { isPublicAddress } from './public-address.js';

/** Longer than any host needs. The timeout of the whole call applies too. */
const connectTimeoutMs = 10_000;
/** How long an idle connection is kept. */
const idleMs = 4_000;
const maxUrlLength = 2_048;

export class UrlNotUsable extends Problem {
  constructor(why: string) {
    super(422, 'url.not_usable', `The URL cannot be called: ${why}.`);
  }
}

export class AddressNotPublic extends Problem {
  constructor(host: string) {
    super(
      422,
      'url.address_not_public',
      `${host} is not an address on the public internet. The operator can allow ranges of a private network with ALLOW_PRIVATE_ADDRESSES.`,
    );
  }
}

export class HostUnreachable extends Problem {
  constructor(why: string) {
    super(502, 'url.unreachable', `The host could not be reached: ${why}.`);
  }
}

export class ResponseTooLate extends Problem {
  constructor(ms: number) {
    super(504, 'url.timed_out', `The host gave no complete answer within ${ms / 1_000} s.`);
  }
}

export class ResponseTooLarge extends Problem {
  constructor(bytes: number) {
    super(422, 'url.too_large', `The answer is longer than ${bytes} bytes.`);
  }
}

export interface PublicRequest {
  method: 'GET' | 'POST';
  headers?: Record<string, string>;
  body?: string;
  /** The timeout of the whole call: name lookup, connection, answer, and the last byte of its body. */
  timeoutMs: number;
  /** Of several calls that have one timeout together: it ends after `timeoutMs`. */
  signal?: AbortSignal;
  /** The maximum length of the answer's body on the wire. Nothing is decompressed. */
  maxBytes: number;
  /** Ranges of private addresses that may still be called: `config.allowedPrivateAddresses`. */
  allowPrivate: readonly string[];
  /**
   * PEM: only these authorities count, not the public ones. A server may also present one of these certificates itself, under
   * whatever name.
   */
  caCertificate?: string | null;
}

export interface PublicResponse {
  status: number;
  headers: IncomingHttpHeaders;
  /**
   * The caller must read it to its end or destroy it. It fails with {@link ResponseTooLarge}, {@link ResponseTooLate} or
   * {@link HostUnreachable} if it is too long, too slow or truncated.
   */
  body: Readable;
}

/**
 * Calls a URL from a stranger. It calls only hosts on the public internet. It checks the address at the moment of connecting, so
 * a name that changes its address (DNS rebinding) does not pass. It does not follow redirects: they are returned as answers.
 * @throws UrlNotUsable, AddressNotPublic, HostUnreachable, ResponseTooLate, ResponseTooLarge
 */
export async function publicFetch(url: string, options: PublicRequest): Promise<PublicResponse> {
  const { method, headers, body, timeoutMs, maxBytes, allowPrivate } = options;
  const target = toPublicUrl(url, allowPrivate);
  const signal = options.signal ?? AbortSignal.timeout(timeoutMs);
  const toProblem = (error: unknown) => problemOf(error, timeoutMs);
  try {
    const answer = await request(target, {
      dispatcher: agentFor(allowPrivate, options.caCertificate ?? null),
      method,
      headers: { 'accept-encoding': 'identity', ...headers },
      body,
      signal,
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
    });
    const length = Number(answer.headers['content-length']);
    if (length > maxBytes) {
      discard(answer.body);
      throw new ResponseTooLarge(maxBytes);
    }
    return {
      status: answer.statusCode,
      headers: answer.headers,
      body: bounded(answer.body, maxBytes, toProblem),
    };
  } catch (error) {
    throw toProblem(error);
  }
}

/**
 * Parses and checks a URL, without a lookup of its host's addresses.
 * @throws UrlNotUsable, AddressNotPublic
 */
export function toPublicUrl(text: string, allowPrivate: readonly string[]): URL {
  if (text.length > maxUrlLength) throw new UrlNotUsable(`it is longer than ${maxUrlLength} characters`);
  if (!URL.canParse(text)) throw new UrlNotUsable('it is not an absolute URL');
  const url = new URL(text);
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw new UrlNotUsable('it must begin with https:// or http://');
  if (url.username !== '' || url.password !== '')
    throw new UrlNotUsable('it must not contain a user name or password');
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  // A literal address needs no lookup, so the lookup cannot check it.
  if (isIP(host) !== 0 && !isPublicAddress(host, allowPrivate)) throw new AddressNotPublic(host);
  return url;
}

/** A user and a password of basic auth. */
export interface Login {
  user: string;
  password: string;
}

/**
 * Takes the user and the password out of a URL: {@link publicFetch} takes no URL that has them.
 * @throws UrlNotUsable if they are not percent-encoded UTF-8
 */
export function splitLogin(text: string): { url: string; login: Login | null } {
  if (!URL.canParse(text)) return { url: text, login: null };
  const url = new URL(text);
  if (url.username === '' && url.password === '') return { url: text, login: null };
  const login = { user: decodeLogin(url.username), password: decodeLogin(url.password) };
  if (login.user.includes(':')) throw new UrlNotUsable('its user name must not contain ":"');
  url.username = url.password = '';
  return { url: url.href, login };
}

/** The value of `Authorization` (RFC 7617). */
export function basicAuth({ user, password }: Login): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
}

function decodeLogin(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new UrlNotUsable('its user name and password must be percent-encoded UTF-8');
  }
}

/**
 * One connection pool for each set of allowed ranges and certificates, so that a connection of one never serves another. A process
 * has one set of ranges, from its settings.
 */
const agents = new LRUCache<string, Agent>({
  max: 256,
  // Calls that run go on: the pool closes after them.
  dispose: (agent) => void agent.close(),
});

function agentFor(allowPrivate: readonly string[], caCertificate: string | null): Agent {
  const key = `${allowPrivate.join()} ${caCertificate ?? ''}`;
  let agent = agents.get(key);
  if (!agent) {
    agent = new Agent({
      connect: {
        lookup: publicLookup(allowPrivate),
        timeout: connectTimeoutMs,
        ...(caCertificate === null ? {} : trustOnly(caCertificate)),
      },
      // No limit of connections per host: tenants share hosts, and no tenant may wait behind a hanging call of another. The
      // callers limit how many calls run at the same time.
      connections: null,
      keepAliveTimeout: idleMs,
      keepAliveMaxTimeout: idleMs,
      maxHeaderSize: 16 * 1_024,
    });
    agents.set(key, agent);
  }
  return agent;
}

/** Options of TLS that trust some certificates only: as authorities, or as the very certificate of the server. */
function trustOnly(pem: string) {
  const ca = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  const pinned = new Set(ca.map((certificate) => new X509Certificate(certificate).fingerprint256));
  return {
    ca,
    allowPartialTrustChain: true,
    checkServerIdentity: (host: string, certificate: PeerCertificate) =>
      pinned.has(certificate.fingerprint256) ? undefined : checkServerIdentity(host, certificate),
  };
}

/**
 * A lookup for `net.connect`, which then connects to the very addresses that this function has checked. It is not called for a
 * literal address. Its error for a name with a private address is {@link AddressNotPublic}.
 */
export function publicLookup(allowPrivate: readonly string[]): LookupFunction {
  return (hostname, { all }, callback) => {
    resolve(hostname, allowPrivate).then(
      (addresses) => {
        // A name with both public and private addresses is a mistake or an attack.
        if (!addresses.every(({ address }) => isPublicAddress(address, allowPrivate)))
          callback(new AddressNotPublic(hostname), '', 0);
        else if (all) callback(null, addresses);
        else callback(null, addresses[0]!.address, addresses[0]!.family);
      },
      (error: NodeJS.ErrnoException) => callback(error, '', 0),
    );
  };
}

/**
 * Asks the name servers without the thread pool: a stranger's slow name server would block its few threads. If private
 * addresses are allowed, the machine's own names, such as localhost, count too.
 */
async function resolve(hostname: string, allowPrivate: readonly string[]) {
  if (allowPrivate.length > 0) return dns.lookup(hostname, { all: true });
  const [v4, v6] = await Promise.allSettled([dns.resolve4(hostname), dns.resolve6(hostname)]);
  if (v4.status === 'rejected' && v6.status === 'rejected') throw v4.reason;
  return [
    ...(v4.status === 'fulfilled' ? v4.value.map((address) => ({ address, family: 4 })) : []),
    ...(v6.status === 'fulfilled' ? v6.value.map((address) => ({ address, family: 6 })) : []),
  ];
}

/** Limits the length of a body, and converts every error of the body to a {@link Problem}. */
export function bounded(body: Readable, maxBytes: number, toProblem: (error: unknown) => Problem): Readable {
  let bytes = 0;
  const limited = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      if (bytes > maxBytes) done(new ResponseTooLarge(maxBytes));
      else done(null, chunk);
    },
  });
  // No pipeline: it would destroy `limited` with the library's error, and the reader would see that error.
  body.on('error', (error) => limited.destroy(toProblem(error)));
  // A reader gets the error. Without a reader, nobody needs it, but an unhandled error would end the process.
  limited.on('error', () => undefined).once('close', () => discard(body));
  return body.pipe(limited);
}

/** Destroys a body without a reader, and its connection. */
function discard(body: Readable): void {
  body.on('error', () => undefined).destroy();
}

function problemOf(error: unknown, timeoutMs: number): Problem {
  if (error instanceof Problem) return error;
  const { name, message, code, cause } = error as Error & { code?: string };
  if (cause instanceof Problem) return cause;
  const isLate =
    name === 'TimeoutError' ||
    error instanceof errors.HeadersTimeoutError ||
    error instanceof errors.BodyTimeoutError;
  if (isLate) return new ResponseTooLate(timeoutMs);
  return new HostUnreachable(reasonOf(code ?? '', message || code || name));
}

/** The reason without the addresses and paths that errors of the network and of TLS name. */
function reasonOf(code: string, message: string): string {
  if (code === 'EPROTO' || code.startsWith('ERR_SSL_')) return 'its TLS does not work';
  return reasons[code] ?? (/^E[A-Z]+$/.test(code) ? 'the connection failed' : foreignText(message));
}

const unknownAuthority =
  'its certificate comes from an authority that is not known. A webhook may name the certificate as caCertificate';

/** The texts of common errors, by their code. */
const reasons: Record<string, string> = {
  ECONNREFUSED: 'it refuses connections',
  ECONNRESET: 'it closed the connection',
  UND_ERR_SOCKET: 'it closed the connection',
  UND_ERR_CONNECT_TIMEOUT: 'it did not accept the connection in time',
  ENOTFOUND: 'its name is unknown',
  ENODATA: 'its name has no address',
  ETIMEOUT: 'its name servers do not answer',
  EAI_AGAIN: 'its name servers do not answer',
  ENETUNREACH: 'this machine has no route to its address',
  EHOSTUNREACH: 'this machine has no route to its address',
  DEPTH_ZERO_SELF_SIGNED_CERT: unknownAuthority,
  SELF_SIGNED_CERT_IN_CHAIN: unknownAuthority,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: unknownAuthority,
  UNABLE_TO_GET_ISSUER_CERT: unknownAuthority,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: unknownAuthority,
  CERT_HAS_EXPIRED: 'its certificate has expired',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another name',
  UND_ERR_HEADERS_OVERFLOW: 'its headers are too long',
};
