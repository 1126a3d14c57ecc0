import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import S3rver from 's3rver';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { blobKey } from '../../src/media/media-storage.js';
import { S3Storage } from '../../src/media/s3-storage.js';

/* Against s3rver, a server of others that speaks S3. It does not check signatures of version 4: those are the word of
   aws4fetch. Nor can it answer
   with a list in pages on today's Node.js. That, and failing on demand, is done by a server of our own. */

const bucket = 'flotilla-media';
let dir: string;
let server: S3rver;
let endpoint: string;
let storage: S3Storage;

const settings = {
  bucket,
  region: 'us-east-1',
  // The only key that s3rver knows.
  accessKeyId: 'S3RVER',
  secretAccessKey: 'S3RVER',
  forcePathStyle: true,
};

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'flotilla-s3-'));
  server = new S3rver({
    address: '127.0.0.1',
    port: 0,
    silent: true,
    directory: join(dir, 'buckets'),
    configureBuckets: [{ name: bucket, configs: [] }],
  });
  endpoint = `http://127.0.0.1:${(await server.run()).port}`;
  storage = new S3Storage({ ...settings, endpoint });
});
afterAll(async () => {
  await server?.close();
  rmSync(dir, { recursive: true, force: true });
});

function newFile(bytes: Buffer) {
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const path = join(dir, sha256);
  writeFileSync(path, bytes);
  return {
    path,
    size: bytes.length,
    sha256,
    key: blobKey({ sha256, blobId: '019a1b2c-3d4e-7f00-8000-0123456789ab' }),
  };
}

async function keys(from: S3Storage): Promise<string[]> {
  const found: string[] = [];
  for await (const { key, writtenAt } of from.list()) {
    expect(writtenAt.getTime()).toBeGreaterThan(Date.now() - 600_000);
    found.push(key);
  }
  return found;
}

describe('a bucket', () => {
  it('stores a file, returns it and parts of it, lists it, and removes it', async () => {
    const bytes = randomBytes(3_000_000);
    const file = newFile(bytes);
    expect(await storage.size(file.key)).toBeNull();
    await storage.put(file.key, file);
    expect(await storage.size(file.key)).toBe(bytes.length);
    expect((await buffer(await storage.open(file.key))).equals(bytes)).toBe(true);
    expect(await buffer(await storage.open(file.key, { start: 10, end: 19 }))).toEqual(
      bytes.subarray(10, 20),
    );
    expect(await keys(storage)).toEqual([file.key]);
    await storage.delete(file.key);
    await storage.delete(file.key);
    expect(await keys(storage)).toEqual([]);
    await expect(storage.open(file.key)).rejects.toMatchObject({ code: 'media.blob_missing' });
  });

  it('that does not exist is reported as unavailable, with the reason for the log', async () => {
    const file = newFile(randomBytes(10));
    const nowhere = new S3Storage({ ...settings, endpoint, bucket: 'no-such-bucket' });
    await expect(nowhere.put(file.key, file)).rejects.toMatchObject({
      status: 503,
      code: 'media.storage_unavailable',
      cause: expect.objectContaining({ message: expect.stringContaining('NoSuchBucket') }),
    });
    // Its files are not lost.
    for (const ask of ['open', 'size', 'delete'] as const)
      await expect(nowhere[ask](file.key)).rejects.toMatchObject({ code: 'media.storage_unavailable' });
  });
});

/* A minimal server of our own, which answers as Amazon's documentation says or fails: it shows what the storage makes of it, not that
   it speaks S3. */
describe('a bucket that is long, or fails', () => {
  let failing: Server | undefined;
  afterEach(() => {
    failing?.closeAllConnections();
    failing?.close();
  });

  async function storageAt(serve: RequestListener): Promise<S3Storage> {
    failing = createServer(serve);
    await once(failing.listen(0, '127.0.0.1'), 'listening');
    return new S3Storage({
      ...settings,
      endpoint: `http://127.0.0.1:${(failing.address() as AddressInfo).port}`,
    });
  }

  it('is listed page by page', async () => {
    const asked: (string | null)[] = [];
    const paged = await storageAt((request, response) => {
      const token = new URL(request.url!, 'http://bucket').searchParams.get('continuation-token');
      asked.push(token);
      const more =
        token === null
          ? '<IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b=</NextContinuationToken>'
          : '<IsTruncated>false</IsTruncated>';
      response.end(`<?xml version="1.0"?><ListBucketResult>${more}
        <Contents><Key>page/${asked.length}</Key><LastModified>${new Date().toISOString()}</LastModified></Contents>
      </ListBucketResult>`);
    });
    expect(await keys(paged)).toEqual(['page/1', 'page/2']);
    expect(asked).toEqual([null, 'a&b=']);
  });

  it('and refuses the key is reported as unavailable, with the reason for the log', async () => {
    const refusing = await storageAt((request, response) => {
      request.resume();
      response.writeHead(403).end('<Error><Code>SignatureDoesNotMatch</Code><Message>No.</Message></Error>');
    });
    const file = newFile(randomBytes(10));
    await expect(refusing.put(file.key, file)).rejects.toMatchObject({
      code: 'media.storage_unavailable',
      cause: expect.objectContaining({ message: 'The bucket answered 403 SignatureDoesNotMatch No.' }),
    });
  });

  it('for a moment gets the request again, with the whole file', async () => {
    const bytes = randomBytes(200_000);
    const received: Buffer[] = [];
    const flaky = await storageAt((request, response) => {
      void buffer(request).then((body) => {
        received.push(body);
        response.writeHead(received.length < 3 ? 503 : 200).end();
      });
    });
    const file = newFile(bytes);
    await flaky.put(file.key, file);
    expect(received.map((body) => body.equals(bytes))).toEqual([true, true, true]);
  });

  it('for good is given up after three attempts', async () => {
    let calls = 0;
    const down = await storageAt((_request, response) => {
      calls += 1;
      response.destroy();
    });
    const file = newFile(randomBytes(10));
    await expect(down.put(file.key, file)).rejects.toMatchObject({ code: 'media.storage_unavailable' });
    expect(calls).toBe(3);
  });

  it('and does not begin to answer is given up after the timeout of the caller', async () => {
    const hanging = await storageAt(() => undefined);
    const askedAt = performance.now();
    await expect(hanging.open('ab/c', undefined, 200)).rejects.toMatchObject({
      code: 'media.storage_unavailable',
    });
    expect(performance.now() - askedAt).toBeLessThan(5_000);
  });

  it('and is slow still returns the whole file', async () => {
    const slow = await storageAt((_request, response) => {
      response.writeHead(200, { 'content-length': '10' });
      let left = 10;
      const drip = setInterval(() => {
        response.write('.');
        left -= 1;
        if (left === 0) clearInterval(drip);
      }, 100);
      response.on('close', () => clearInterval(drip));
    });
    expect(await buffer(await slow.open('ab/c', undefined, 500))).toHaveLength(10);
  });

  it('in the middle of a file makes its reader fail', async () => {
    const cut = await storageAt((_request, response) => {
      response.writeHead(200, { 'content-length': '100' }).write('half', () => response.destroy());
    });
    await expect(buffer(await cut.open('ab/c'))).rejects.toThrow();
  });
});
