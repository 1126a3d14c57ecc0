import type { IncomingHttpHeaders } from 'node:http';
import { once } from 'node:events';
import { pipeline, type Readable, type Transform } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate, createInflateRaw } from 'node:zlib';
import { Problem } from '../errors/problem.js';
import {
  basicAuth,
  bounded,
  HostUnreachable,
  publicFetch,
  splitLogin,
  UrlNotUsable,
} from './public-fetch.js';

const maxRedirects = 5;
const redirects = new Set([301, 302, 303, 307, 308]);
/** Servers apply one coding, rarely two. */
const maxCodings = 3;

export class TooManyRedirects extends Problem {
  constructor() {
    super(422, 'url.too_many_redirects', `The URL leads through more than ${maxRedirects} redirects.`);
  }
}

export interface PublicDownload {
  status: number;
  headers: IncomingHttpHeaders;
  /** The URL of the answer, behind all redirects. */
  url: URL;
  /**
   * Without its `Content-Encoding`. The caller must read it to its end or destroy it. It fails with `ResponseTooLarge`,
   * `ResponseTooLate` or `HostUnreachable` if it is too long, too slow, truncated or damaged.
   */
  body: Readable;
}

/**
 * Gets a URL from a stranger as a browser does: it follows redirects, undoes the `Content-Encoding`, and sends the user and the
 * password of the URL as basic auth. The addresses of every redirect are checked like the first.
 * @param options `timeoutMs`: the timeout of everything together; `maxBytes`: the maximum length of the body, both on the wire
 *   and decoded; `userAgent`: some servers refuse requests without a name
 * @throws UrlNotUsable, AddressNotPublic, HostUnreachable, ResponseTooLate, ResponseTooLarge, TooManyRedirects
 */
export async function publicDownload(
  url: string,
  options: { timeoutMs: number; maxBytes: number; allowPrivate: readonly string[]; userAgent: string },
): Promise<PublicDownload> {
  const { userAgent, maxBytes, ...rest } = options;
  const signal = AbortSignal.timeout(options.timeoutMs);
  let target = splitLogin(url);
  for (let followed = 0; ; followed += 1) {
    const answer = await publicFetch(target.url, {
      ...rest,
      maxBytes,
      method: 'GET',
      headers: {
        accept: '*/*',
        'accept-encoding': 'gzip, br',
        'user-agent': userAgent,
        ...(target.login ? { authorization: basicAuth(target.login) } : {}),
      },
      signal,
    });
    const { location } = answer.headers;
    if (!redirects.has(answer.status) || location === undefined) {
      const body = await decoded(answer.body, answer.headers['content-encoding'], maxBytes);
      return { status: answer.status, headers: answer.headers, url: new URL(target.url), body };
    }
    answer.body.destroy();
    if (followed === maxRedirects) throw new TooManyRedirects();
    target = redirected(target, location);
  }
}

type Target = ReturnType<typeof splitLogin>;

/** The next target. Like a browser, the same server gets the same login, and another server does not. */
function redirected({ url, login }: Target, location: string): Target {
  if (!URL.canParse(location, url)) throw new UrlNotUsable('it redirects to something that is not a URL');
  const next = splitLogin(new URL(location, url).href);
  const isSameServer = new URL(next.url).origin === new URL(url).origin;
  return { url: next.url, login: next.login ?? (isSameServer ? login : null) };
}

async function decoded(body: Readable, encoding: string | undefined, maxBytes: number): Promise<Readable> {
  const codings = (encoding ?? '')
    .toLowerCase()
    .split(',')
    .map((coding) => coding.trim())
    .filter((coding) => coding !== '' && coding !== 'identity');
  if (codings.length === 0) return body;
  try {
    if (codings.length > maxCodings) throw unknownEncoding(encoding!);
    let plain = body;
    // The last coding was applied last.
    for (const coding of codings.reverse()) {
      const decoder = await decoderOf(coding, plain);
      // The error of a pipeline destroys its decoder, whose reader gets the error.
      plain = pipeline(plain, decoder, () => undefined);
    }
    return bounded(plain, maxBytes, (error) => (error instanceof Problem ? error : damaged(error)));
  } catch (error) {
    body.destroy();
    throw error;
  }
}

async function decoderOf(coding: string, body: Readable): Promise<Transform> {
  if (coding === 'gzip' || coding === 'x-gzip') return createGunzip();
  if (coding === 'br') return createBrotliDecompress();
  if (coding !== 'deflate') throw unknownEncoding(coding);
  // Servers disagree on "deflate". Some leave out the header of the format, whose first byte ends with 8.
  await once(body, 'readable');
  const start = body.read() as Buffer | null;
  if (start) body.unshift(start);
  return start && (start[0]! & 15) !== 8 ? createInflateRaw() : createInflate();
}

function unknownEncoding(encoding: string): HostUnreachable {
  return new HostUnreachable(
    `its answer has the Content-Encoding ${encoding.slice(0, 50)}, which it was not asked for`,
  );
}

function damaged(cause: unknown): HostUnreachable {
  const problem = new HostUnreachable('its answer is damaged: it does not fit its Content-Encoding');
  problem.cause = cause;
  return problem;
}
