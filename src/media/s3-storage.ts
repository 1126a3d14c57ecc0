import { AwsV4Signer } from 'aws4fetch';
import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { type Dispatcher, request } from 'undici';
import { backoffAfter, type Jitter } from '../platform/backoff.js';
import type { Config } from '../platform/config/config.js';
import {
  type ByteRange,
  MediaBlobMissing,
  type MediaStorage,
  MediaStorageUnavailable,
} from './media-storage.js';
import type { SpooledFile } from './media-spool.js';

type S3Settings = NonNullable<Config['media']['s3']>;

/** The timeout of an answer, and of each pause in its body. */
const answerTimeoutMs = 30_000;
/** A slower upload is aborted. */
const minBytesPerSecond = 200_000;
const maxAttempts = 3;
const pausesMs = [200, 800];
const pauseJitter: Jitter = [0.5, 1.5];
/** How much of the body of an error is used, in characters. */
const maxErrorLength = 4_096;

/**
 * Media in an S3-compatible bucket. One request streams a file from the disk as one object. Its length and hash are known, so the
 * bucket refuses a damaged upload, and an interrupted upload leaves no parts behind. S3 takes up to 5 GB this way.
 */
export class S3Storage implements MediaStorage {
  private readonly bucketUrl: URL;
  /** The signing keys, which change every day. */
  private readonly signingKeys = new Map<string, ArrayBuffer>();

  constructor(private readonly settings: S3Settings) {
    const url = new URL(settings.endpoint);
    if (settings.forcePathStyle) url.pathname = `${url.pathname.replace(/\/$/, '')}/${settings.bucket}`;
    else url.hostname = `${settings.bucket}.${url.hostname}`;
    this.bucketUrl = url;
  }

  async put(key: string, file: SpooledFile): Promise<void> {
    const answer = await this.call('PUT', key, {
      headers: { 'content-length': String(file.size), 'content-type': 'application/octet-stream' },
      contentHash: file.sha256,
      body: () => createReadStream(file.path),
      signal: AbortSignal.timeout(answerTimeoutMs + Math.ceil((file.size / minBytesPerSecond) * 1_000)),
    });
    await expectStatus(answer, [200]);
    await answer.body.dump();
  }

  async open(
    key: string,
    range?: ByteRange,
    answerWithinMs = answerTimeoutMs * maxAttempts,
  ): Promise<Readable> {
    const headers: Record<string, string> = range ? { range: `bytes=${range.start}-${range.end}` } : {};
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(), answerWithinMs);
    try {
      const bodyTimeout = Math.min(answerWithinMs, answerTimeoutMs);
      const answer = await this.call('GET', key, { headers, signal: deadline.signal, bodyTimeout });
      if (!(await isFound(answer, [range ? 206 : 200]))) throw new MediaBlobMissing(key);
      return answer.body;
    } finally {
      // The deadline is for the first byte. After that only pauses are limited.
      clearTimeout(timer);
    }
  }

  async size(key: string): Promise<number | null> {
    const answer = await this.call('HEAD', key);
    await answer.body.dump();
    if (answer.statusCode === 404) {
      // An answer to HEAD has no body that says whether the object or the bucket is missing.
      const found = await this.call('GET', key);
      if (!(await isFound(found, [200]))) return null;
      found.body.destroy();
      return Number(found.headers['content-length']);
    }
    await expectStatus(answer, [200]);
    return Number(answer.headers['content-length']);
  }

  async delete(key: string): Promise<void> {
    const answer = await this.call('DELETE', key);
    if (await isFound(answer, [200, 204])) await answer.body.dump();
  }

  async *list(): AsyncIterable<{ key: string; writtenAt: Date }> {
    for (let token: string | undefined; ;) {
      const query = { 'list-type': '2', ...(token === undefined ? {} : { 'continuation-token': token }) };
      const answer = await this.call('GET', '', { query });
      await expectStatus(answer, [200]);
      const page = await text(answer.body);
      for (const [, object = ''] of page.matchAll(/<Contents>(.*?)<\/Contents>/gs)) {
        yield { key: element(object, 'Key')!, writtenAt: new Date(element(object, 'LastModified')!) };
      }
      token = element(page, 'IsTruncated') === 'true' ? element(page, 'NextContinuationToken') : undefined;
      if (token === undefined) return;
    }
  }

  /** Calls the bucket. It retries temporary errors, with the body from its beginning, until the signal aborts. */
  private async call(
    method: 'GET' | 'HEAD' | 'PUT' | 'DELETE',
    key: string,
    options: {
      query?: Record<string, string>;
      headers?: Record<string, string>;
      contentHash?: string;
      body?: () => Readable;
      signal?: AbortSignal;
      bodyTimeout?: number;
    } = {},
  ): Promise<Dispatcher.ResponseData> {
    const {
      query = {},
      headers = {},
      contentHash = hashOfNothing,
      body,
      signal,
      bodyTimeout = answerTimeoutMs,
    } = options;
    const url = new URL(this.bucketUrl);
    url.pathname = `${url.pathname.replace(/\/$/, '')}/${key}`;
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    for (let attempt = 1; ; attempt += 1) {
      const source = body?.();
      try {
        const answer = await request(url, {
          method,
          headers: await this.sign(method, url, { ...headers, 'x-amz-content-sha256': contentHash }),
          body: source,
          // The bucket answers an upload after its last byte, so `signal` limits its time.
          headersTimeout: body ? 0 : answerTimeoutMs,
          bodyTimeout,
          signal,
        });
        if (attempt === maxAttempts || (answer.statusCode < 500 && answer.statusCode !== 429)) return answer;
        await answer.body.dump();
      } catch (error) {
        if (attempt === maxAttempts || signal?.aborted) throw new MediaStorageUnavailable(error);
      } finally {
        source?.destroy();
      }
      await delay(backoffAfter(attempt, pausesMs, pauseJitter));
    }
  }

  private async sign(
    method: string,
    url: URL,
    headers: Record<string, string>,
  ): Promise<Record<string, string>> {
    const { accessKeyId, secretAccessKey, region } = this.settings;
    const signed = await new AwsV4Signer({
      method,
      url: url.href,
      headers,
      accessKeyId,
      secretAccessKey,
      region,
      service: 's3',
      cache: this.signingKeys,
    }).sign();
    return Object.fromEntries(signed.headers);
  }
}

const hashOfNothing = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

/** @throws MediaStorageUnavailable with the message of the bucket */
async function expectStatus(answer: Dispatcher.ResponseData, expected: number[]): Promise<void> {
  if (!expected.includes(answer.statusCode))
    throw refusalOf(answer, (await text(answer.body)).slice(0, maxErrorLength));
}

/**
 * Whether the object exists. A 404 because of a missing bucket, or from a proxy, is an error: it does not tell.
 * @throws MediaStorageUnavailable
 */
async function isFound(answer: Dispatcher.ResponseData, expected: number[]): Promise<boolean> {
  if (expected.includes(answer.statusCode)) return true;
  const said = (await text(answer.body)).slice(0, maxErrorLength);
  if (answer.statusCode === 404 && element(said, 'Code') === 'NoSuchKey') return false;
  throw refusalOf(answer, said);
}

function refusalOf({ statusCode }: Dispatcher.ResponseData, said: string): MediaStorageUnavailable {
  return new MediaStorageUnavailable(
    new Error(
      `The bucket answered ${statusCode} ${element(said, 'Code') ?? ''} ${element(said, 'Message') ?? ''}`.trim(),
    ),
  );
}

/** The text of the first element with this name. Flotilla's keys need no full XML parser. */
function element(xml: string, name: string): string | undefined {
  const found = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1];
  return found?.replace(/&(amp|lt|gt|quot|apos|#34|#39);/g, (_entity, entity: string) => entities[entity]!);
}

const entities: Record<string, string> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  apos: "'",
  '#34': '"',
  '#39': "'",
};
