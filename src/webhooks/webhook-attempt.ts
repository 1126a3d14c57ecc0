import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import { type Jitter, jittered } from '../platform/backoff.js';
import { withDeadline } from '../platform/deadline.js';
import { Problem } from '../platform/errors/problem.js';
import { publicFetch } from '../platform/http/public-fetch.js';
import { signatures } from './webhook-secrets.js';

/** How long an endpoint may take to answer. */
export const attemptTimeoutMs = 15_000;
/** How long its answer is listened to once its status is known: nothing depends on it. */
const excerptTimeoutMs = 2_000;
const excerptBytes = 1_024;
/** More of an answer is not read, even to keep its connection. */
const longestAnswer = 64 * 1_024;

/** The waits before the second, third, … attempt, over a day and more: those that Standard Webhooks suggests. */
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
/** Endpoints that came down together are not to be called together: up to so much longer. */
const jitter: Jitter = [1, 1.1];
/** An endpoint may ask for patience, but not for ever. */
const longestRetryAfterMs = 2 * hour;

/** What an endpoint is told. */
export interface Notification {
  /** The same in every attempt: receivers know by it what they have had. */
  id: string;
  type: string;
  createdAt: string;
  workspaceId: string | null;
  accountId: string | null;
  data: unknown;
}

/** What came of one attempt. It has succeeded when `error` is null. */
export interface AttemptOutcome {
  statusCode: number | null;
  durationMs: number;
  error: string | null;
  /** The beginning of the answer's body; null when there was none. */
  excerpt: string | null;
  /** For how long the endpoint asked to be left alone, in milliseconds. */
  retryAfterMs: number;
}

/**
 * Tells an endpoint once, signed by the Standard Webhooks scheme. Any 2xx is success, whatever follows it: a redirect is not
 * followed, and a body that is cut off, too long or too slow changes nothing.
 */
export async function attempt(
  url: string,
  secrets: string[],
  notification: Notification,
  options: { allowPrivate: readonly string[]; version: string },
): Promise<AttemptOutcome> {
  const body = JSON.stringify(notification);
  const timestamp = Math.floor(Date.now() / 1_000);
  const started = performance.now();
  const durationMs = () => Math.round(performance.now() - started);
  try {
    const answer = await publicFetch(url, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'user-agent': `Flotilla/${options.version}`,
        'webhook-id': notification.id,
        'webhook-timestamp': String(timestamp),
        'webhook-signature': signatures(secrets, notification.id, timestamp, body),
      },
      body,
      timeoutMs: attemptTimeoutMs,
      maxBytes: Infinity,
      allowPrivate: options.allowPrivate,
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
 * How long to wait after the given number of attempts, in milliseconds; null when there is no further one.
 * @param retryAfterMs what the endpoint asked for
 */
export function waitAfter(attempts: number, retryAfterMs = 0): number | null {
  const wait = retryWaitsMs[attempts - 1];
  if (wait === undefined) return null;
  return jittered(Math.max(wait, retryAfterMs), jitter);
}

function failureOf(status: number): string {
  if (status >= 300 && status < 400)
    return `webhook.redirected: It answered ${status}. Redirects are not followed: set the URL to where it leads.`;
  if (status === 410) return 'webhook.gone: It answered 410: it wants no more.';
  return `webhook.refused: It answered ${status}.`;
}

function retryAfter(headers: IncomingHttpHeaders): number {
  const text = headers['retry-after'];
  if (text === undefined) return 0;
  const ms = /^\d+$/.test(text) ? Number(text) * 1_000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? 0 : Math.min(Math.max(ms, 0), longestRetryAfterMs);
}

/** The beginning of a body. It is read to its end when that is near, so that the connection can be used again. */
async function excerptOf(body: Readable): Promise<string | null> {
  const chunks: Buffer[] = [];
  const read = async () => {
    let length = 0;
    for await (const chunk of body as AsyncIterable<Buffer>) {
      if (length < excerptBytes) chunks.push(chunk);
      length += chunk.length;
      if (length > longestAnswer) return;
    }
  };
  try {
    await withDeadline(read(), excerptTimeoutMs, () => new Error('too slow'));
  } catch {
    // Cut off or too slow: what did come is shown.
    body.destroy();
  }
  if (chunks.length === 0) return null;
  return Buffer.concat(chunks).subarray(0, excerptBytes).toString('utf8').replaceAll('\u0000', '');
}
