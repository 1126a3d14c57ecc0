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

/** How long the answer to a request may take, and each pause of its body. */
const answerMs = 30_000;
/** A transfer that is slower than this is given up. */
const slowestBytesPerSecond = 200_000;
const attempts = 3;
const pausesMs = [200, 800];
const pauseJitter: Jitter = [0.5, 1.5];
/** Of an answer that is an error. */
const longestError = 4_096;

/**
 * Media in an S3-compatible bucket. A file is sent as one object in one request, streamed from the disk: its length and hash are
 * known, so the bucket refuses one that arrives damaged, and an upload that breaks off leaves no parts behind. S3 takes 5 GB so.
 */
export class S3Storage implements MediaStorage {
  private readonly bucketUrl: URL;
  /** The signing keys of the day. */
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
      signal: AbortSignal.timeout(answerMs + Math.ceil((file.size / slowestBytesPerSecond) * 1_000)),
    });
    await expectStatus(answer, [200]);
    await answer.body.dump();
  }

  async open(key: string, range?: ByteRange, answerWithinMs = answerMs * attempts): Promise<Readable> {
    const headers: Record<string, string> = range ? { range: `bytes=${range.start}-${range.end}` } : {};
    const patience = new AbortController();
    const timer = setTimeout(() => patience.abort(), answerWithinMs);
    try {
      const bodyTimeout = Math.min(answerWithinMs, answerMs);
      const answer = await this.call('GET', key, { headers, signal: patience.signal, bodyTimeout });
      if (!(await isFound(answer, [range ? 206 : 200]))) throw new MediaBlobMissing(key);
      return answer.body;
    } finally {
      // What has begun takes as long as it goes on.
      clearTimeout(timer);
    }
  }

  async size(key: string): Promise<number | null> {
    const answer = await this.call('HEAD', key);
    await answer.body.dump();
    if (answer.statusCode === 404) {
      // Such an answer has no body that would say what is not there: the object, or the bucket.
      const asked = await this.call('GET', key);
      if (!(await isFound(asked, [200]))) return null;
      asked.body.destroy();
      return Number(asked.headers['content-length']);
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

  /** Calls the bucket; what may pass by itself is tried again, with the body from its beginning, until the signal. */
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
      bodyTimeout = answerMs,
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
          // An upload is answered when it is whole.
          headersTimeout: body ? 0 : answerMs,
          bodyTimeout,
          signal,
        });
        if (attempt === attempts || (answer.statusCode < 500 && answer.statusCode !== 429)) return answer;
        await answer.body.dump();
      } catch (error) {
        if (attempt === attempts || signal?.aborted) throw new MediaStorageUnavailable(error);
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

/** @throws MediaStorageUnavailable naming what the bucket says */
async function expectStatus(answer: Dispatcher.ResponseData, expected: number[]): Promise<void> {
  if (!expected.includes(answer.statusCode))
    throw refusalOf(answer, (await text(answer.body)).slice(0, longestError));
}

/**
 * Whether there is such an object. That the bucket does not exist, or that a proxy knows nothing of it, is no answer to that.
 * @throws MediaStorageUnavailable
 */
async function isFound(answer: Dispatcher.ResponseData, expected: number[]): Promise<boolean> {
  if (expected.includes(answer.statusCode)) return true;
  const said = (await text(answer.body)).slice(0, longestError);
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

/** The text of the first element of this name. Keys are ours and need no more of XML than that. */
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
