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

/* Against s3rver, a server of others that speaks S3 and checks signatures. What no such server does on demand, failing, is done by
   one of our own further down. */

const bucket = 'flotilla-media';
let dir: string;
let server: S3rver;
let endpoint: string;
let storage: S3Storage;

const settings = {
  bucket,
  region: 'us-east-1',
  // The one that s3rver knows.
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
  it('keeps a file, gives it and parts of it, lists it, and removes it', async () => {
    const bytes = randomBytes(3_000_000);
    const file = newFile(bytes);
    expect(await storage.size(file.key)).toBeNull();
    await storage.put(file.key, file);
    expect(await storage.size(file.key)).toBe(bytes.length);
    expect(await buffer(await storage.open(file.key))).toEqual(bytes);
    expect(await buffer(await storage.open(file.key, { start: 10, end: 19 }))).toEqual(
      bytes.subarray(10, 20),
    );
    expect(await keys(storage)).toEqual([file.key]);
    await storage.delete(file.key);
    await storage.delete(file.key);
    expect(await keys(storage)).toEqual([]);
    await expect(storage.open(file.key)).rejects.toMatchObject({ code: 'media.blob_missing' });
  });

  it('lists more than fits into one answer', async () => {
    const files = Array.from({ length: 1_005 }, (_, index) => newFile(Buffer.from(`file ${index}`)));
    for (let from = 0; from < files.length; from += 20)
      await Promise.all(files.slice(from, from + 20).map((file) => storage.put(file.key, file)));
    expect(await keys(storage)).toEqual(files.map(({ key }) => key).sort());
  }, 60_000);

  it('that does not take the key, or does not exist, is said to be unavailable, with the reason for the log', async () => {
    const file = newFile(randomBytes(10));
    const stranger = new S3Storage({ ...settings, endpoint, secretAccessKey: 'wrong' });
    await expect(stranger.put(file.key, file)).rejects.toMatchObject({
      status: 503,
      code: 'media.storage_unavailable',
      cause: expect.objectContaining({ message: expect.stringContaining('403 SignatureDoesNotMatch') }),
    });
    const nowhere = new S3Storage({ ...settings, endpoint, bucket: 'no-such-bucket' });
    await expect(nowhere.put(file.key, file)).rejects.toMatchObject({
      cause: expect.objectContaining({ message: expect.stringContaining('NoSuchBucket') }),
    });
  });
});

/* A minimal server of our own, which only fails: it shows what the storage makes of it, not that it speaks S3. */
describe('a bucket that fails', () => {
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

  it('for a moment is asked again, with the whole file', async () => {
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

  it('for good is given up after three times', async () => {
    let calls = 0;
    const down = await storageAt((_request, response) => {
      calls += 1;
      response.destroy();
    });
    const file = newFile(randomBytes(10));
    await expect(down.put(file.key, file)).rejects.toMatchObject({ code: 'media.storage_unavailable' });
    expect(calls).toBe(3);
  });

  it('in the middle of a file fails whoever reads it', async () => {
    const cut = await storageAt((_request, response) => {
      response.writeHead(200, { 'content-length': '100' }).write('half', () => response.destroy());
    });
    await expect(buffer(await cut.open('ab/c'))).rejects.toThrow();
  });
});
