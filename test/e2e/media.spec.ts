import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.js';
import { Flotilla, type Workspace } from '../support/flotilla.js';

/* Files through HTTP, as a product's backend sends and fetches them. What becomes of them in messages is tested with those. */

const png = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==',
  'base64',
);
const newPng = () => Buffer.concat([png, randomBytes(16)]);
const limit = 64 * 2 ** 20;
const downloads = 3;
const unknown = '019a1b2c-3d4e-7f00-8000-0123456789ab';

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- what a caller of the API sees: JSON of any shape
type Json = any;

let flotilla: Flotilla;
let workspace: Workspace;
let viewer: string;
let sender: string;

beforeAll(async () => {
  flotilla = await Flotilla.start({
    programs: ['api', 'scheduler'],
    env: { ALLOW_PRIVATE_ADDRESSES: '127.0.0.1/32', MEDIA_DOWNLOADS_PER_WORKSPACE: String(downloads) },
  });
  workspace = await flotilla.newWorkspace();
  viewer = await workspace.keyFor('viewer');
  sender = await workspace.keyFor('sender');
});
afterAll(() => flotilla?.stop());

function request(path: string, options: RequestInit = {}, key = sender): Promise<Response> {
  const headers = { authorization: `Bearer ${key}`, ...(options.headers as Record<string, string>) };
  return fetch(`${flotilla.stack.urls.api}/api/v1${path}`, { ...options, headers });
}

function formOf(bytes: Buffer, filename = 'a.png', type = 'image/png', field = 'file'): FormData {
  const form = new FormData();
  form.append(field, new Blob([new Uint8Array(bytes)], { type }), filename);
  return form;
}

async function upload(form: FormData, key = sender): Promise<{ status: number; body: Json }> {
  const response = await request('/media', { method: 'POST', body: form }, key);
  return { status: response.status, body: await response.json() };
}

function filesIn(folder: 'files' | 'spool'): string[] {
  const dir = join(flotilla.stack.varDir, 'media', folder);
  if (!existsSync(dir)) return [];
  return readdirSync(dir, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => name);
}

/** Sends what no client would, and gives the status and the body that come back. */
async function raw(head: string[], body: string): Promise<string> {
  const { hostname, port } = new URL(flotilla.stack.urls.api);
  const socket = connect(Number(port), hostname);
  let text = '';
  const ended = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1');
    if (/\r\n\r\n.*\}$/s.test(text)) socket.destroy();
  });
  socket.on('error', () => undefined);
  const lines = [
    'POST /api/v1/media HTTP/1.1',
    'Host: test',
    `Authorization: Bearer ${sender}`,
    ...head,
    '',
    '',
  ];
  socket.write(lines.join('\r\n'));
  socket.write(body);
  await ended;
  return text;
}

describe('an upload', () => {
  it('tells what the file is, and is the file that comes back', async () => {
    const bytes = newPng();
    const { status, body } = await upload(formOf(bytes, 'Grüße 👋.png'));
    expect(status).toBe(201);
    expect(body).toMatchObject({
      mimetype: 'image/png',
      size: bytes.length,
      sha256: createHash('sha256').update(bytes).digest('hex'),
      filename: 'Grüße 👋.png',
      source: 'upload',
    });
    const answer = await request(`/media/${body.mediaId}`, {}, viewer);
    expect(answer.status).toBe(200);
    expect(Buffer.from(await answer.arrayBuffer())).toEqual(bytes);
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      'content-type': 'image/png',
      'content-length': String(bytes.length),
      etag: `"${body.sha256}"`,
      'accept-ranges': 'bytes',
      'x-content-type-options': 'nosniff',
      'content-disposition': expect.stringMatching(
        /^attachment; .*filename\*=UTF-8''Gr%C3%BC%C3%9Fe%20%F0%9F%91%8B\.png$/,
      ),
      'content-security-policy': expect.stringContaining('sandbox'),
    });
    expect((await upload(formOf(bytes, 'Grüße 👋.png'))).body.mediaId).toBe(body.mediaId);
    const list = await workspace.call('GET', '/media?source=upload&limit=1');
    expect(list.body.items).toMatchObject([{ mediaId: body.mediaId }]);
  });

  it('of HTML is a document, to be saved and not shown', async () => {
    const { body } = await upload(formOf(Buffer.from('<script>alert(1)</script>'), 'a.html', 'text/html'));
    const answer = await request(`/media/${body.mediaId}`);
    expect(answer.headers.get('content-type')).toBe('text/html');
    expect(answer.headers.get('content-disposition')).toBe('attachment; filename=a.html');
    expect(answer.headers.get('x-content-type-options')).toBe('nosniff');
  });

  it.each([
    ['an empty file', formOf(Buffer.alloc(0)), 422, 'media.empty'],
    ['a file that is not what it says', formOf(Buffer.from('text')), 422, 'media.type_mismatch'],
    ['a program', formOf(Buffer.from('echo'), 'run.bat', 'text/plain'), 422, 'media.type_refused'],
    ['another field', formOf(png, 'a.png', 'image/png', 'photo'), 400, 'validation.failed'],
    ['no field', new FormData(), 400, 'validation.failed'],
  ])('of %s is refused', async (_name, form, status, code) => {
    const answer = await upload(form);
    expect([answer.status, answer.body.code]).toEqual([status, code]);
    expect(filesIn('spool')).toEqual([]);
  });

  it('of two files, of a field beside the file, and of what is no form is refused', async () => {
    const twice = formOf(png);
    twice.append('file', new Blob(['x']), 'b.txt');
    const beside = formOf(png);
    beside.append('caption', 'Hi');
    for (const form of [twice, beside]) {
      expect(await upload(form)).toMatchObject({ status: 400, body: { code: 'validation.failed' } });
    }
    const json = await workspace.call('POST', '/media', { url: 'https://example.com' });
    expect(json).toMatchObject({ status: 415, body: { code: 'media.unsupported_upload' } });
    const headers = { 'content-type': 'multipart/form-data' };
    const malformed = await request('/media', { method: 'POST', body: 'x', headers });
    expect(malformed.status).toBe(400);
    expect(await malformed.json()).toMatchObject({ code: 'media.malformed_upload' });
    expect(filesIn('spool')).toEqual([]);
  });

  it('that ends before its form does is refused', async () => {
    const part = '--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhalf';
    const answer = await raw(
      ['Content-Type: multipart/form-data; boundary=b', `Content-Length: ${part.length}`],
      part,
    );
    expect(answer).toContain('HTTP/1.1 400');
    expect(answer).toContain('media.malformed_upload');
    expect(filesIn('spool')).toEqual([]);
  });

  it('that breaks off leaves nothing', async () => {
    const before = filesIn('files').length;
    const part = '--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n';
    const controller = new AbortController();
    const sending = request('/media', {
      method: 'POST',
      signal: controller.signal,
      headers: { 'content-type': 'multipart/form-data; boundary=b' },
      body: new ReadableStream({
        start: (stream) => {
          stream.enqueue(Buffer.from(part));
          stream.enqueue(Buffer.alloc(300_000, 'x'));
        },
      }),
      duplex: 'half',
    } as RequestInit);
    await eventually('the upload on its way', async () => filesIn('spool').length === 1);
    controller.abort();
    await expect(sending).rejects.toThrow();
    await eventually('nothing left of it', async () => filesIn('spool').length === 0);
    expect(filesIn('files')).toHaveLength(before);
  });

  it('that is too large is refused at once when it says so, and at the limit when it does not; the answer arrives', async () => {
    const said = await raw(
      ['Content-Type: multipart/form-data; boundary=b', `Content-Length: ${limit * 2}`],
      '--b\r\n',
    );
    expect(said).toContain('HTTP/1.1 413');
    expect(said).toContain('media.too_large');
    const chunk = Buffer.alloc(2 ** 20, 'x');
    let sent = 0;
    const answer = await request('/media', {
      method: 'POST',
      headers: { 'content-type': 'multipart/form-data; boundary=b' },
      body: new ReadableStream({
        start: (stream) =>
          stream.enqueue(
            Buffer.from('--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'),
          ),
        pull: (stream) => {
          sent += chunk.length;
          if (sent > limit + 4 * 2 ** 20) stream.close();
          else stream.enqueue(chunk);
        },
      }),
      duplex: 'half',
    } as RequestInit);
    expect(answer.status).toBe(413);
    expect(await answer.json()).toMatchObject({ code: 'media.too_large' });
    await eventually('nothing left of it', async () => filesIn('spool').length === 0);
  });

  it('of 60 MB, three at once, is never in the memory of the API', async () => {
    const pid = (await flotilla.stack.status()).get('flotilla:api')!.pid;
    const memory = (name: string) =>
      Number(new RegExp(`${name}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1_024;
    const before = memory('VmRSS');
    let highest = before;
    const watch = setInterval(() => (highest = Math.max(highest, memory('VmRSS'))), 20);
    try {
      const files = [1, 2, 3].map((seed) => Buffer.alloc(60_000_000, randomBytes(1_000 + seed)));
      const stored = await Promise.all(files.map((bytes) => upload(formOf(bytes, 'large.bin', ''))));
      for (const [index, { status, body }] of stored.entries()) {
        expect([status, body.size]).toEqual([201, 60_000_000]);
        const answer = await request(`/media/${body.mediaId}`);
        const hash = createHash('sha256');
        for await (const chunk of answer.body!) hash.update(chunk);
        expect(hash.digest('hex')).toBe(createHash('sha256').update(files[index]!).digest('hex'));
      }
    } finally {
      clearInterval(watch);
    }
    process.stdout.write(
      `memory of the API: ${Math.round(before)} MB, at the highest ${Math.round(highest)} MB\n`,
    );
    // 180 MB were on their way at once, and again on the way back.
    expect(highest - before).toBeLessThan(90);
  });
});

describe('a download', () => {
  const bytes = newPng();
  let path: string;
  let etag: string;
  beforeAll(async () => {
    const { body } = await upload(formOf(bytes, 'a.png'));
    path = `/media/${body.mediaId}`;
    etag = `"${body.sha256}"`;
  });

  it.each([
    ['bytes=0-3', 0, 4],
    ['bytes=4-', 4, undefined],
    ['bytes=-5', -5, undefined],
    ['bytes=2-100000', 2, undefined],
  ])('of %s is that part', async (range, from, to) => {
    const part = bytes.subarray(from, to);
    const answer = await request(path, { headers: { range } });
    expect(answer.status).toBe(206);
    expect(Buffer.from(await answer.arrayBuffer())).toEqual(part);
    const start = bytes.indexOf(part);
    expect(answer.headers.get('content-range')).toBe(
      `bytes ${start}-${start + part.length - 1}/${bytes.length}`,
    );
  });

  it('of a part that is not there is refused; of what is no range it is the whole', async () => {
    const beyond = await request(path, { headers: { range: 'bytes=9999-' } });
    expect(beyond.status).toBe(416);
    expect(beyond.headers.get('content-range')).toBe(`bytes */${bytes.length}`);
    expect(await beyond.json()).toMatchObject({ code: 'media.range_not_satisfiable' });
    const whole: Record<string, string>[] = [
      { range: 'lines=1-2' },
      { range: 'bytes=0-1,3-4' },
      { range: 'bytes=0-1', 'if-range': '"another"' },
    ];
    for (const headers of whole) {
      const answer = await request(path, { headers });
      expect([answer.status, (await answer.arrayBuffer()).byteLength]).toEqual([200, bytes.length]);
    }
    const same = await request(path, { headers: { range: 'bytes=0-1', 'if-range': etag } });
    expect(same.status).toBe(206);
  });

  it('of what the caller has is not sent again', async () => {
    const answer = await request(path, { headers: { 'if-none-match': etag, 'cache-control': 'max-age=0' } });
    expect([answer.status, await answer.text()]).toEqual([304, '']);
  });

  it('can be looked at without the file', async () => {
    const answer = await request(path, { method: 'HEAD' }, viewer);
    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-length')).toBe(String(bytes.length));
    expect(await answer.text()).toBe('');
    expect((await request(`/media/${unknown}`, { method: 'HEAD' })).status).toBe(404);
  });
});

describe('who may', () => {
  it('a viewer reads; a sender uploads and deletes; without a key nobody does', async () => {
    const { body } = await upload(formOf(newPng()));
    expect((await upload(formOf(newPng()), viewer)).status).toBe(403);
    expect((await request(`/media/${body.mediaId}`, { method: 'DELETE' }, viewer)).status).toBe(403);
    expect((await request('/media', {}, viewer)).status).toBe(200);
    for (const [method, path] of [
      ['POST', '/media'],
      ['GET', '/media'],
      ['GET', `/media/${body.mediaId}`],
      ['DELETE', `/media/${body.mediaId}`],
    ] as const) {
      expect((await flotilla.call(method, path, undefined, null)).status).toBe(401);
    }
    expect((await request(`/media/${body.mediaId}`, { method: 'DELETE' })).status).toBe(204);
    expect((await request(`/media/${body.mediaId}`)).status).toBe(404);
    expect((await request(`/media/${body.mediaId}`, { method: 'DELETE' })).status).toBe(404);
    expect((await request('/media/x')).status).toBe(400);
  });

  it('another workspace sees nothing of it, and does not learn that somebody has the same file', async () => {
    const bytes = newPng();
    const mine = (await upload(formOf(bytes))).body;
    const other = await flotilla.newWorkspace('other');
    for (const [method, path] of [
      ['GET', `/media/${mine.mediaId}`],
      ['HEAD', `/media/${mine.mediaId}`],
      ['DELETE', `/media/${mine.mediaId}`],
    ] as const) {
      expect((await request(path, { method }, other.key)).status).toBe(404);
    }
    expect((await other.call('GET', '/media')).body.items).toEqual([]);
    const theirs = (await upload(formOf(bytes), other.key)).body;
    expect(theirs.mediaId).not.toBe(mine.mediaId);
    expect({ ...theirs, mediaId: 0, createdAt: 0, lastUsedAt: 0 }).toEqual({
      ...mine,
      mediaId: 0,
      createdAt: 0,
      lastUsedAt: 0,
    });
    await request(`/media/${mine.mediaId}`, { method: 'DELETE' });
    const answer = await request(`/media/${theirs.mediaId}`, {}, other.key);
    expect(Buffer.from(await answer.arrayBuffer())).toEqual(bytes);
  });
});

describe('the media of a message', () => {
  let accountId: string;
  const send = (media: object) =>
    workspace.call('POST', '/messages', { accountId, to: '+6281234567890', type: 'image', media });

  beforeAll(async () => {
    const { body } = await workspace.call('POST', '/accounts', { name: 'test', environment: 'sandbox' });
    accountId = body.id;
  });

  it('is fetched from a URL, not from inside, and stays as long as the message needs it', async () => {
    const bytes = newPng();
    const server = createServer((_request, response) =>
      response.setHeader('content-type', 'image/png').end(bytes),
    );
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const { port } = server.address() as AddressInfo;
    try {
      const inside = await send({ url: `http://127.0.0.2:${port}/a.png` });
      expect(inside).toMatchObject({ status: 422, body: { code: 'media.url_unavailable' } });
      const { status, body } = await send({ url: `http://127.0.0.1:${port}/a.png` });
      expect([status, body.media]).toMatchObject([202, { filename: 'a.png', size: bytes.length }]);
      const path = `/media/${body.media.mediaId}`;
      const needed = await workspace.call('DELETE', path);
      expect(needed).toMatchObject({ status: 409, body: { code: 'media.in_use' } });
      expect((await workspace.call('DELETE', `/messages/${body.id}`)).status).toBe(200);
      expect((await workspace.call('DELETE', path)).status).toBe(204);
    } finally {
      server.close();
    }
  });
});

describe('URLs', () => {
  it('are downloaded for one workspace a few at the same time', async () => {
    const waiting: (() => void)[] = [];
    const server = createServer((_request, response) => waiting.push(() => response.end(newPng())));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    try {
      const accountId = (await workspace.call('POST', '/accounts', { name: 'urls' })).body.id;
      const send = () => {
        const media = { url: `http://127.0.0.1:${port}/a.png` };
        return workspace.send({ accountId, to: '+6281234567890', type: 'image', media });
      };
      const running = Array.from({ length: downloads }, send);
      await eventually('all are running', () => waiting.length === downloads);
      const refused = await send();
      expect(refused).toMatchObject({ status: 429, body: { code: 'media.too_many_downloads' } });
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
      for (const answer of waiting.splice(0)) answer();
      const next = eventually('the next one may run', async () => {
        const sent = await send();
        return sent.status === 202 && sent;
      });
      await eventually('the next one is running', () => waiting.length === 1);
      waiting[0]!();
      for (const sent of [...(await Promise.all(running)), await next]) {
        expect(sent.status).toBe(202);
        expect((await workspace.call('DELETE', `/messages/${sent.body.id}`)).status).toBe(200);
      }
    } finally {
      server.close();
      server.closeAllConnections();
    }
  });
});

describe('the storage', () => {
  it('has what the limit of a workspace leaves', async () => {
    const small = await flotilla.newWorkspace('small');
    const limits = { maxStorageBytes: 10 };
    expect((await flotilla.call('PATCH', `/workspaces/${small.id}`, { limits })).status).toBe(200);
    // Limits are looked up every few seconds.
    await eventually('the limit', async () =>
      expect(await upload(formOf(newPng()), small.key)).toMatchObject({
        status: 413,
        body: { code: 'workspace.storage_limit' },
      }),
    );
  });

  it('that has lost a file says so, until the file is uploaded again', async () => {
    const bytes = newPng();
    const { body } = await upload(formOf(bytes));
    const path = `/media/${body.mediaId}`;
    const [name] = filesIn('files').filter((file) => file.includes(body.sha256));
    rmSync(join(flotilla.stack.varDir, 'media', 'files', name!.slice(0, 2), name!));
    const lost = await workspace.call('GET', path);
    expect(lost).toMatchObject({ status: 500, body: { code: 'media.blob_missing' } });
    expect((await upload(formOf(bytes))).body.mediaId).toBe(body.mediaId);
    expect(Buffer.from(await (await request(path)).arrayBuffer())).toEqual(bytes);
  });

  it('that is not mounted is unavailable: nothing is lost, and nothing is stored elsewhere', async () => {
    const { body } = await upload(formOf(newPng()));
    const [mounted, elsewhere] = ['files', 'elsewhere'].map((name) =>
      join(flotilla.stack.varDir, 'media', name),
    ) as [string, string];
    const unavailable = { status: 503, body: { code: 'media.storage_unavailable' } };
    renameSync(mounted, elsewhere);
    try {
      expect(await workspace.call('GET', `/media/${body.mediaId}`)).toMatchObject(unavailable);
      expect(await upload(formOf(newPng()))).toMatchObject(unavailable);
      expect(existsSync(mounted)).toBe(false);
    } finally {
      renameSync(elsewhere, mounted);
    }
    expect((await request(`/media/${body.mediaId}`)).status).toBe(200);
  });
});

describe('an operator', () => {
  it('forgets media, and finds that all is in order', async () => {
    const { body } = await upload(formOf(newPng()));
    const kept = await flotilla.stack.cli('media:prune');
    expect([kept.code, kept.stdout]).toEqual([0, expect.stringContaining('0 media deleted')]);
    const check = await flotilla.stack.cli('media:check', '--json');
    expect([check.code, JSON.parse(check.stdout)]).toEqual([0, []]);
    const pruned = await flotilla.stack.cli('media:prune', '--days=0');
    expect([pruned.code, pruned.stdout]).toEqual([0, expect.stringMatching(/^[1-9]\d* media deleted/)]);
    expect((await request(`/media/${body.mediaId}`)).status).toBe(404);
    expect(filesIn('files')).toEqual(['.flotilla-media']);
  });
});
