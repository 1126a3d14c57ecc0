import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import { type Jitter, jittered } from '../platform/backoff.js';
import { withDeadline } from '../platform/deadline.js';
import { Problem } from '../platform/errors/problem.js';
import { basicAuth, publicFetch } from '../platform/http/public-fetch.js';
import { type Endpoint, signatures } from './webhook-secrets.js';

/** How long an endpoint may take to answer. */
export const attemptTimeoutMs = 15_000;
/** How long Flotilla reads the body of an answer after its status: no outcome depends on the body. */
const excerptTimeoutMs = 2_000;
const excerptBytes = 1_024;
/** Flotilla closes the connection of an answer that is longer, and does not read the rest. */
const maxAnswerBytes = 64 * 1_024;

/** The waits before the second, third, … attempt, more than a day in total. Standard Webhooks suggests them. */
const minute = 60_000;
const hour = 60 * minute;
export const retryWaitsMs: readonly number[] = [
  5_000,
  5 * minute,
  30 * minute,
  2 * hour,
  5 * hour,
  10 * hour,
  10 * hour,
];
/** A wait may be longer by up to a tenth, so that endpoints that failed together are not called together. */
const jitter: Jitter = [1, 1.1];
/** Limit of `Retry-After`, so that an endpoint cannot postpone a delivery for ever. */
const maxRetryAfterMs = 2 * hour;

/** The body of a delivery. */
export interface Notification {
  /** The same in every attempt, so that receivers recognise an event that they already have. */
  id: string;
  type: string;
  createdAt: string;
  workspaceId: string | null;
  accountId: string | null;
  data: unknown;
}

/** The outcome of one attempt. The attempt succeeded if `error` is null. */
export interface AttemptOutcome {
  statusCode: number | null;
  durationMs: number;
  error: string | null;
  /** The beginning of the answer's body; null without a body. */
  excerpt: string | null;
  /** The `Retry-After` of the answer, in milliseconds. */
  retryAfterMs: number;
}

/**
 * Posts to an endpoint once, signed by the Standard Webhooks scheme. Any 2xx is success: a body that is truncated, too long
 * or too slow changes nothing. It does not follow redirects.
 * @param options `timeoutMs`: how long the endpoint may take to answer, `attemptTimeoutMs` by default
 */
export async function attempt(
  { url, secrets, headers, login, caCertificate }: Endpoint,
  notification: Notification,
  options: { allowPrivate: readonly string[]; version: string; timeoutMs?: number },
): Promise<AttemptOutcome> {
  const body = JSON.stringify(notification);
  const timestamp = Math.floor(Date.now() / 1_000);
  const started = performance.now();
  const durationMs = () => Math.round(performance.now() - started);
  try {
    const answer = await publicFetch(url, {
      method: 'POST',
      headers: {
        'user-agent': `Flotilla/${options.version}`,
        ...(login ? { authorization: basicAuth(login) } : {}),
        ...lowerCased(headers),
        'content-type': 'application/json',
        'webhook-id': notification.id,
        'webhook-timestamp': String(timestamp),
        'webhook-signature': signatures(secrets, notification.id, timestamp, body),
      },
      body,
      timeoutMs: options.timeoutMs ?? attemptTimeoutMs,
      maxBytes: Infinity,
      allowPrivate: options.allowPrivate,
      caCertificate,
    });
    const answeredMs = durationMs();
    const isSuccess = answer.status >= 200 && answer.status < 300;
    return {
      statusCode: answer.status,
      durationMs: answeredMs,
      error: isSuccess ? null : failureOf(answer.status),
      excerpt: await excerptOf(answer.body),
      retryAfterMs: isSuccess ? 0 : retryAfter(answer.headers),
    };
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return {
      statusCode: null,
      durationMs: durationMs(),
      error: `${error.code}: ${error.message}`,
      excerpt: null,
      retryAfterMs: 0,
    };
  }
}

/**
 * How long to wait after the given number of attempts, in milliseconds; null after the last attempt.
 * @param retryAfterMs the wait that the endpoint asked for
 */
export function waitAfter(attempts: number, retryAfterMs = 0): number | null {
  const wait = retryWaitsMs[attempts - 1];
  if (wait === undefined) return null;
  return jittered(Math.max(wait, retryAfterMs), jitter);
}

/** So that an own header replaces one of Flotilla's, and is not sent beside it. */
function lowerCased(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}

function failureOf(status: number): string {
  if (status >= 300 && status < 400)
    return `webhook.redirected: The endpoint answered ${status}. Flotilla does not follow redirects: set the URL to the target.`;
  if (status === 410) return 'webhook.gone: The endpoint answered 410: it wants no more events.';
  return `webhook.refused: The endpoint answered ${status}. It must answer 2xx.`;
}

function retryAfter(headers: IncomingHttpHeaders): number {
  const text = headers['retry-after'];
  if (text === undefined) return 0;
  const ms = /^\d+$/.test(text) ? Number(text) * 1_000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? 0 : Math.min(Math.max(ms, 0), maxRetryAfterMs);
}

/** The beginning of a body. A short body is read to its end, so that the connection can be reused. */
async function excerptOf(body: Readable): Promise<string | null> {
  const chunks: Buffer[] = [];
  const read = async () => {
    let length = 0;
    for await (const chunk of body as AsyncIterable<Buffer>) {
      if (length < excerptBytes) chunks.push(chunk);
      length += chunk.length;
      if (length > maxAnswerBytes) return;
    }
  };
  try {
    await withDeadline(read(), excerptTimeoutMs, () => new Error('too slow'));
  } catch {
    // The body is truncated or too slow: the excerpt is the part that arrived.
    body.destroy();
  }
  if (chunks.length === 0) return null;
  return Buffer.concat(chunks).subarray(0, excerptBytes).toString('utf8').replaceAll('\u0000', '');
}
