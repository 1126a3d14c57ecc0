import { promises as dns } from 'node:dns';
import type { IncomingHttpHeaders } from 'node:http';
import { isIP, type LookupFunction } from 'node:net';
import { type Readable, Transform } from 'node:stream';
import { Agent, errors, request } from 'undici';
import { Problem } from '../errors/problem.js';
import { isPublicAddress } from './public-address.js';

/** Longer than any host needs; the time limit of the whole call holds besides. */
const longestConnectMs = 10_000;
/** How long an idle connection is kept. */
const idleMs = 4_000;
const longestUrl = 2_048;

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
    super(504, 'url.timed_out', `There was no complete answer within ${ms / 1_000} s.`);
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
  /** How long everything may take: name, connection, answer and the last byte of its body. */
  timeoutMs: number;
  /** How long the body of the answer may be, as it comes over the wire: nothing is decompressed. */
  maxBytes: number;
  /** Ranges of private addresses that may be called all the same: `config.allowedPrivateAddresses`. */
  allowPrivate: readonly string[];
}

export interface PublicResponse {
  status: number;
  headers: IncomingHttpHeaders;
  /**
   * To be read to its end or destroyed. Fails with {@link ResponseTooLarge}, {@link ResponseTooLate} or
   * {@link HostUnreachable} when it is too long, too slow or cut off.
   */
  body: Readable;
}

/**
 * Calls a URL that a stranger has given. Only hosts on the public internet are called: the address is checked where the
 * connection is made, so that a name which changes its address gains nothing. Redirects are answers like any other.
 * @throws UrlNotUsable, AddressNotPublic, HostUnreachable, ResponseTooLate, ResponseTooLarge
 */
export async function publicFetch(url: string, options: PublicRequest): Promise<PublicResponse> {
  const { method, headers, body, timeoutMs, maxBytes, allowPrivate } = options;
  const target = toPublicUrl(url, allowPrivate);
  const signal = AbortSignal.timeout(timeoutMs);
  const toProblem = (error: unknown) => problemOf(error, timeoutMs);
  try {
    const answer = await request(target, {
      dispatcher: agentFor(allowPrivate),
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
 * The URL, when it may be called as far as can be told without asking for its host's addresses.
 * @throws UrlNotUsable, AddressNotPublic
 */
export function toPublicUrl(text: string, allowPrivate: readonly string[]): URL {
  if (text.length > longestUrl) throw new UrlNotUsable(`it is longer than ${longestUrl} characters`);
  if (!URL.canParse(text)) throw new UrlNotUsable('it is no absolute URL');
  const url = new URL(text);
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw new UrlNotUsable('it must begin with https:// or http://');
  if (url.username !== '' || url.password !== '')
    throw new UrlNotUsable('it must hold no user name or password');
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  // A literal address is never looked up, so it is checked here.
  if (isIP(host) !== 0 && !isPublicAddress(host, allowPrivate)) throw new AddressNotPublic(host);
  return url;
}

/** One pool of connections for each set of allowed ranges; a process has one, as its settings say. */
const agents = new Map<string, Agent>();

function agentFor(allowPrivate: readonly string[]): Agent {
  const key = allowPrivate.join();
  let agent = agents.get(key);
  if (!agent) {
    agent = new Agent({
      connect: { lookup: publicLookup(allowPrivate), timeout: longestConnectMs },
      // As many connections to a host as there are calls: tenants share hosts, and none may wait behind what hangs for
      // another. How much is called at once is limited by the callers.
      connections: null,
      keepAliveTimeout: idleMs,
      keepAliveMaxTimeout: idleMs,
      maxHeaderSize: 16 * 1_024,
    });
    agents.set(key, agent);
  }
  return agent;
}

function publicLookup(allowPrivate: readonly string[]): LookupFunction {
  return (hostname, { all }, callback) => {
    resolve(hostname, allowPrivate).then(
      (addresses) => {
        // A name with one private address among public ones is a mistake or an attack.
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
 * Asks the name servers without the thread pool, whose few threads a slow name server of a stranger would hold up. Where
 * private addresses are allowed the machine's own names, such as localhost, count too.
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

/** The body as far as it keeps its limits; whatever it fails with is a {@link Problem} by the time that a reader sees it. */
function bounded(body: Readable, maxBytes: number, toProblem: (error: unknown) => Problem): Readable {
  let bytes = 0;
  const limited = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      if (bytes > maxBytes) done(new ResponseTooLarge(maxBytes));
      else done(null, chunk);
    },
  });
  // Not by a pipeline: a stream shows readers the error that it was destroyed with, and that would be the library's own.
  body.on('error', (error) => limited.destroy(toProblem(error)));
  // It reaches whoever reads; without a reader it is of no interest to anybody.
  limited.on('error', () => undefined).once('close', () => discard(body));
  return body.pipe(limited);
}

/** Drops a body that nobody reads, with its connection. */
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
  return new HostUnreachable(reasons[code ?? ''] ?? (message || code || name));
}

/** What is said of the usual reasons. */
const reasons: Record<string, string> = {
  ECONNREFUSED: 'it refuses connections',
  ECONNRESET: 'it broke the connection off',
  UND_ERR_SOCKET: 'it broke the connection off',
  UND_ERR_CONNECT_TIMEOUT: 'it does not accept connections in time',
  ENOTFOUND: 'its name is not known',
  ENODATA: 'its name has no address',
  ETIMEOUT: 'its name servers do not answer',
  EAI_AGAIN: 'its name servers do not answer',
  UND_ERR_HEADERS_OVERFLOW: 'its headers are too long',
};
