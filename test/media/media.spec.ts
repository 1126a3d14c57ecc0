import type { INestApplicationContext } from '@nestjs/common';
import { getDataSourceToken } from '@nestjs/typeorm';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { once } from 'node:events';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import express from 'express';
import sharp, { type Sharp } from 'sharp';
import type { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { MediaBlobsService, type StorageFinding } from '../../src/media/media-blobs.service.js';
import { destroyStalledSockets } from '../../src/platform/http/stalled-sockets.js';
import { sendMedia } from '../../src/media/media-download.js';
import { type BoundedRun, runBounded } from '../../src/media/bounded-program.js';
import { ConverterMissing, MediaConverter } from '../../src/media/media-converter.js';
import { blobKey } from '../../src/media/media-storage.js';
import { MediaSpool } from '../../src/media/media-spool.js';
import type { Media } from '../../src/media/media.entity.js';
import { MediaModule } from '../../src/media/media.module.js';
import { cleanName } from '../../src/media/media-name.js';
import { MediaService } from '../../src/media/media.service.js';
import { type Config, projectRoot } from '../../src/platform/config/config.js';
import { CONFIG } from '../../src/platform/config/config.module.js';
import type { Problem } from '../../src/platform/errors/problem.js';
import { eventually } from '../support/eventually.js';
import { DatabaseModule } from '../../src/platform/database/database.module.js';
import { createLogger } from '../../src/platform/logging/logger.js';
import { createContext } from '../../src/platform/start-role.js';
import { insertAccount, insertWorkspace } from '../support/factories.js';
import { files } from '../sandbox/media-files.js';
import { heicFiles } from '../support/heic-files.js';
import { scratchDatabase } from '../support/scratch-database.js';

const maxBytes = 1_000_000;
const png = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==',
  'base64',
);
/** A picture that is not stored yet: the bytes after its end make it unique, and readers ignore them. */
const newPng = () => Buffer.concat([png, randomBytes(16)]);
const base64 = (bytes: Buffer | string) => Buffer.from(bytes).toString('base64');

let context: INestApplicationContext;
let drop: () => Promise<void>;
let database: DataSource;
let media: MediaService;
let blobs: MediaBlobsService;
let dir: string;
let workspaceId: string;

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  dir = mkdtempSync(join(tmpdir(), 'flotilla-media-'));
  const config = {
    ...scratch.config,
    media: { ...scratch.config.media, path: dir, maxBytes, fetchTimeoutMs: 1_500 },
    allowedPrivateAddresses: ['127.0.0.0/8'],
  };
  const role = { module: class {}, imports: [DatabaseModule, MediaModule] };
  context = await createContext(role, config, createLogger('test', 'silent'));
  database = context.get<DataSource>(getDataSourceToken());
  media = context.get(MediaService);
  blobs = context.get(MediaBlobsService);
});
afterAll(async () => {
  await context?.close();
  await drop?.();
  rmSync(dir, { recursive: true, force: true });
});
beforeEach(async () => {
  await database.query('delete from workspaces');
  await blobs.removeUnused();
  workspaceId = await newWorkspace();
});

/** The files of the storage, or of the spool. */
function filesIn(folder: 'files' | 'spool'): string[] {
  return readdirSync(join(dir, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name !== '.flotilla-media')
    .map((entry) => join(entry.parentPath, entry.name));
}

const newWorkspace = () => insertWorkspace(database);

async function newMessage(mediaId: string, status = 'queued'): Promise<string> {
  const id = uuidv7();
  const account = await insertAccount(database, workspaceId);
  await database.query(
    `insert into messages (id, workspace_id, account_id, direction, priority, type, chat_id, recipient, status, whatsapp_id, media)
     values ($1, $2, $3, 'outgoing', 1, 'image', 'a@c.us', 'a', $4, $5, $6)`,
    [id, workspaceId, account, status, id, { mediaId }],
  );
  return id;
}

async function findings(): Promise<StorageFinding[]> {
  const found: StorageFinding[] = [];
  for await (const finding of blobs.check()) found.push(finding);
  return found;
}

describe('storing a file', () => {
  it('keeps its bytes, and detects its type', async () => {
    const bytes = newPng();
    const row = await media.take(workspaceId, { data: base64(bytes), filename: '../a\u202e.png' });
    expect(row).toMatchObject({
      workspaceId,
      mimetype: 'image/png',
      size: bytes.length,
      filename: 'a.png',
      source: 'data',
      sha256: createHash('sha256').update(bytes).digest('hex'),
    });
    expect(await buffer(await media.open(row.id))).toEqual(bytes);
    expect(await buffer(await media.open(row, { start: 1, end: 3 }))).toEqual(bytes.subarray(1, 4));
    const copy = join(dir, 'copy.png');
    await media.copyTo(row.id, copy);
    expect(readFileSync(copy)).toEqual(bytes);
    await expect(media.copyTo(row.id, copy)).rejects.toThrow('EEXIST');
    expect(filesIn('spool')).toEqual([]);
  });

  it('refuses invalid base64, empty files and files that are too long, and leaves nothing', async () => {
    for (const data of ['abc', 'a===', 'ab d', 'ab-_']) {
      await expect(media.take(workspaceId, { data })).rejects.toMatchObject({ code: 'validation.failed' });
    }
    await expect(media.take(workspaceId, { data: '' })).rejects.toMatchObject({
      status: 422,
      code: 'media.empty',
    });
    const long = { data: base64(Buffer.alloc(maxBytes + 1)) };
    await expect(media.take(workspaceId, long)).rejects.toMatchObject({
      status: 413,
      code: 'media.too_large',
    });
    const broken = Readable.from(
      (function* () {
        yield png;
        throw new Error('cut off');
      })(),
    );
    await expect(media.storeIncoming(workspaceId, broken)).rejects.toThrow('cut off');
    const failedBefore = new Readable({ read() {} });
    const storing = media.storeIncoming(workspaceId, failedBefore);
    failedBefore.destroy(new Error('failed before anybody listened'));
    await expect(storing).rejects.toThrow('failed before');
    expect([...filesIn('spool'), ...filesIn('files')]).toEqual([]);
  });

  it.each([
    ['a picture that is declared as another', newPng(), 'image/jpeg', 'image/png'],
    ['a picture without a declared type', newPng(), undefined, 'image/png'],
    ['text', 'a,b\n1,ü\n', 'text/csv', 'text/csv'],
    ['text that begins like a bitmap', 'BM and so on', undefined, 'text/plain'],
    ['text in Latin-1', Buffer.from('Größe,Preis\n', 'latin1'), 'text/csv', 'text/csv'],
    ['text in Latin-1 that begins like a bitmap', Buffer.from('BMé', 'latin1'), 'text/plain', 'text/plain'],
    ['text in UTF-16', Buffer.from('\ufeffGröße\tPreis', 'utf16le'), 'text/csv', 'text/csv'],
    ['text in Shift JIS', Buffer.from([0x93, 0xfa, 0x96, 0x7b, 0x0d, 0x0a]), 'text/plain', 'text/plain'],
    [
      'text in Latin-1 that nobody declares',
      Buffer.from('Größe', 'latin1'),
      undefined,
      'application/octet-stream',
    ],
    ['HTML, as a document', '<!doctype html><p>Hi</p>', 'text/html', 'text/html'],
    [
      'a drawing',
      '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
      'image/svg+xml',
      'image/svg+xml',
    ],
    ['bytes without a known type', Buffer.from([1, 2, 0, 255]), undefined, 'application/octet-stream'],
    [
      'bytes without a known type, as text',
      Buffer.from([1, 2, 0, 255]),
      'text/plain',
      'application/octet-stream',
    ],
    [
      'a private format',
      Buffer.from([1, 2, 0, 255]),
      'application/vnd.acme.plan',
      'application/vnd.acme.plan',
    ],
    [
      'a voice',
      Buffer.concat([Buffer.from('OggS\0\x02'), Buffer.alloc(22), Buffer.from('OpusHead')]),
      'audio/ogg; codecs=opus',
      'audio/ogg; codecs=opus',
    ],
  ])('%s', async (_name, bytes, mimetype, expected) => {
    const row = await media.take(workspaceId, { data: base64(bytes), ...(mimetype ? { mimetype } : {}) });
    expect(row.mimetype).toBe(expected);
  });

  it.each([
    ['text as a picture', 'hello', 'image/png', 'a.png', 'media.type_mismatch'],
    [
      'a drawing without its signature as a picture of another type',
      '<svg/>',
      'image/webp',
      'a.svg',
      'media.type_mismatch',
    ],
    ['a picture as a document', newPng(), 'application/pdf', 'a.pdf', 'media.type_mismatch'],
    ['a document as a picture', '%PDF-1.7\n', 'image/jpeg', 'a.jpg', 'media.type_mismatch'],
    [
      'a program',
      Buffer.concat([Buffer.from('\x7fELF'), Buffer.alloc(60)]),
      undefined,
      'a',
      'media.type_refused',
    ],
    [
      'a program of Windows as a picture',
      Buffer.concat([Buffer.from('MZ'), Buffer.alloc(60)]),
      'image/png',
      'a.png',
      'media.type_refused',
    ],
    ['a script, by its name', 'del *', undefined, 'a.BAT', 'media.type_refused'],
    ['a program, by a name that Windows shortens', 'x', undefined, 'a.exe. .', 'media.type_refused'],
    ['an app of Android, by its name', 'x', undefined, 'shop.apk', 'media.type_refused'],
  ])('refuses %s', async (_name, bytes, mimetype, filename, code) => {
    const source = { data: base64(bytes), filename, ...(mimetype ? { mimetype } : {}) };
    await expect(media.take(workspaceId, source)).rejects.toMatchObject({ status: 422, code });
    expect([...filesIn('spool'), ...filesIn('files')]).toEqual([]);
  });

  it('stores a received file of any type, and its bytes decide the type', async () => {
    const program = Buffer.concat([Buffer.from('\x7fELF'), Buffer.alloc(60)]);
    const row = await media.storeIncoming(workspaceId, Readable.from([program]), {
      mimetype: 'image/png',
      filename: 'a.exe',
    });
    expect(row).toMatchObject({ mimetype: 'application/x-elf', source: 'incoming', filename: 'a.exe' });
    const unnamed = await media.storeIncoming(workspaceId, Readable.from([newPng()]));
    expect(unnamed).toMatchObject({ mimetype: 'image/png', filename: null });
  });

  it('makes names harmless', () => {
    expect(cleanName('C:\\x\\y.txt')).toBe('y.txt');
    expect(cleanName('/etc/passwd')).toBe('passwd');
    for (const name of ['..', '.', '', '/', '\u0000', null]) expect(cleanName(name)).toBeNull();
    expect(cleanName(`${'x'.repeat(500)}.jpeg`)).toMatch(/^x{195}\.jpeg$/);
    expect(cleanName('a\r\nSet-Cookie: b')).toBe('aSet-Cookie: b');
    expect(cleanName(' a.exe. . ')).toBe('a.exe');
  });
});

describe('a URL', () => {
  let server: Server;
  let url: string;
  let serve: RequestListener;
  beforeAll(async () => {
    server = createServer((request, response) => serve(request, response));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });

  it('is downloaded; its server need not know the type', async () => {
    const bytes = newPng();
    serve = (_request, response) => response.writeHead(200, { 'content-type': 'text/plain' }).end(bytes);
    const row = await media.take(workspaceId, { url: `${url}/a%20b.png?x=1` });
    expect(row).toMatchObject({ mimetype: 'image/png', filename: 'a b.png', source: 'url' });
    await expect(media.take(workspaceId, { url, mimetype: 'application/pdf' })).rejects.toMatchObject({
      code: 'media.type_mismatch',
    });
  });

  const pdf = Buffer.from('%PDF-1.4\n%âãÏÓ\n');
  const octets = 'application/octet-stream';
  const named = (disposition: string) => Buffer.from(disposition).toString('latin1');
  it.each<[path: string, disposition: string | null, type: string, body: Buffer | string, name: string]>([
    ['/f.php?id=5', 'attachment; filename="Invoice 7.pdf"', octets, pdf, 'Invoice 7.pdf'],
    ['/x', `attachment; filename="r.pdf"; filename*=UTF-8''r%C3%A9sum%C3%A9.pdf`, octets, pdf, 'résumé.pdf'],
    ['/x', `attachment; filename*=iso-8859-1''%E9t%E9.pdf`, octets, pdf, 'été.pdf'],
    ['/x', named('inline; filename="Müller.pdf"'), octets, pdf, 'Müller.pdf'],
    ['/x', 'attachment; filename=My file.pdf', octets, pdf, 'My file.pdf'],
    ['/x', 'attachment; filename="../../etc/x.pdf"', octets, pdf, 'x.pdf'],
    ['/a%2Fb.pdf', 'attachment', octets, pdf, 'b.pdf'],
    ['/', null, octets, pdf, 'download.pdf'],
    ['/download.php', null, 'application/pdf', pdf, 'download.pdf'],
    ['/report.html', null, 'application/pdf', pdf, 'report.pdf'],
    ['/Offer%203.5', null, 'application/pdf', pdf, 'Offer 3.5.pdf'],
    ['/100%', null, 'application/pdf', pdf, '100%.pdf'],
    ['/photo', null, 'image/png', newPng(), 'photo.png'],
    ['/photo.jpg', null, 'image/png', newPng(), 'photo.png'],
    ['/list', null, 'text/csv; charset=iso-8859-1', Buffer.from('Größe\n', 'latin1'), 'list.csv'],
    ['/song.mp3', null, octets, Buffer.from('OggS\0\x02' + '\0'.repeat(22) + 'OpusHead'), 'song.ogg'],
    ['/notes.md', null, 'text/plain', '# Notes', 'notes.md'],
    ['/.well-known', null, 'text/plain', 'known', '.well-known.txt'],
    ['/sheet.xlsx', null, octets, Buffer.from('PK\x03\x04' + '\0'.repeat(30)), 'sheet.xlsx'],
    ['/data.bin', null, octets, Buffer.from([1, 2, 0, 255]), 'data.bin'],
  ])('%s with %s gives a name that fits', async (path, disposition, type, body, name) => {
    serve = (_request, response) => {
      response.setHeader('content-type', type);
      if (disposition !== null) response.setHeader('content-disposition', disposition);
      response.end(body);
    };
    expect((await media.take(workspaceId, { url: url + path })).filename).toBe(name);
    // A name of the caller stays as it is.
    expect((await media.take(workspaceId, { url: url + path, filename: 'mine.x' })).filename).toBe('mine.x');
  });

  it('that leads to a program by a redirect or a header is refused', async () => {
    serve = ({ url: path }, response) => {
      if (path === '/a.pdf') response.writeHead(302, { location: '/b.exe' }).end();
      else response.setHeader('content-disposition', 'attachment; filename="b.exe"').end('MZ');
    };
    for (const path of ['/a.pdf', '/c.pdf'])
      await expect(media.take(workspaceId, { url: url + path })).rejects.toMatchObject({
        code: 'media.type_refused',
      });
    expect([...filesIn('spool'), ...filesIn('files')]).toEqual([]);
  });

  it.each<[string, string, RequestListener]>([
    ['an error', 'media.url_unavailable', (_request, response) => response.writeHead(404).end('x')],
    [
      'a redirect to itself',
      'media.url_unavailable',
      (_request, response) => response.writeHead(302, { location: '/x' }).end(),
    ],
    ['a redirect to nowhere', 'media.url_unavailable', (_request, response) => response.writeHead(302).end()],
    [
      'a damaged encoding',
      'media.url_unavailable',
      (_request, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end('no gzip'),
    ],
    [
      'few bytes that become too many',
      'media.too_large',
      (_request, response) =>
        response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(maxBytes + 1))),
    ],
    [
      'a part',
      'media.url_unavailable',
      (_request, response) => response.writeHead(206, { 'content-range': 'bytes 0-0/9' }).end('x'),
    ],
    ['silence', 'media.url_unavailable', () => undefined],
    [
      'an endless slow answer',
      'media.url_unavailable',
      (_request, response) => {
        response.writeHead(200).write('x');
        const timer = setInterval(() => response.write('x'), 50);
        response.on('close', () => clearInterval(timer));
      },
    ],
    [
      'a connection that breaks',
      'media.url_unavailable',
      (_request, response) => {
        response.writeHead(200, { 'content-length': '100' }).write('x', () => response.destroy());
      },
    ],
    [
      'more than is allowed',
      'media.too_large',
      (_request, response) => response.writeHead(200).end(Buffer.alloc(maxBytes + 1)),
    ],
    ['nothing', 'media.empty', (_request, response) => response.writeHead(200).end()],
  ])('that answers with %s gives %s, and leaves nothing', async (_name, code, answer) => {
    serve = answer;
    await expect(media.take(workspaceId, { url: `${url}/a.png` })).rejects.toMatchObject({ code });
    expect([...filesIn('spool'), ...filesIn('files')]).toEqual([]);
  });

  it('that is private or malformed is not called', async () => {
    for (const inside of [
      'http://10.0.0.1/',
      'http://169.254.169.254/latest/',
      'http://[::1]/',
      'file:///etc/passwd',
      'x',
    ]) {
      await expect(media.take(workspaceId, { url: inside })).rejects.toMatchObject({
        status: 422,
        code: 'media.url_unavailable',
      });
    }
  });
});

describe('a file that is sent as a voice message', () => {
  const sources = new Map<string, Buffer>();
  beforeAll(() => {
    // Other seconds of sound would be other bytes.
    for (const [name, codec] of [
      ['a.mp3', 'libmp3lame'],
      ['a.m4a', 'aac'],
      ['a.wav', 'pcm_s16le'],
      ['a.flac', 'flac'],
      ['a.webm', 'libopus'],
      ['vorbis.ogg', 'libvorbis'],
    ] as const) {
      const path = join(dir, name);
      execFileSync('ffmpeg', [
        ...['-nostdin', '-loglevel', 'error', '-f', 'lavfi', '-i', 'sine=440:duration=1'],
        ...['-metadata', 'title=secret-place', '-c:a', codec, path],
      ]);
      sources.set(name, readFileSync(path));
    }
  });
  const take = (name: string, type = 'voice', bytes = sources.get(name)!) =>
    media.take(workspaceId, { data: base64(bytes), filename: name }, type);

  it.each([
    ['a.mp3', 'audio/mpeg'],
    ['a.m4a', 'audio/x-m4a'],
    ['a.wav', 'audio/wav'],
    ['a.flac', 'audio/flac'],
    ['a.webm', 'video/webm'],
    ['vorbis.ogg', 'audio/ogg'],
  ])('becomes Ogg with Opus: %s', async (name, from) => {
    const row = await take(name);
    expect(row).toMatchObject({
      convertedFrom: from,
      mimetype: 'audio/ogg; codecs=opus',
      filename: name.replace(/\w+$/, 'ogg'),
    });
    const bytes = await buffer(await media.open(row.id));
    expect(bytes.length).toBe(row.size);
    expect(bytes.includes('OpusHead')).toBe(true);
    expect(bytes.includes('secret-place')).toBe(false);
    expect((await take(name)).id).toBe(row.id);
    // What is right already stays as it is, also without its codec in the type.
    const again = await media.take(
      workspaceId,
      { data: base64(bytes), mimetype: 'audio/ogg', filename: 'b.ogg' },
      'voice',
    );
    expect(again).toMatchObject({ convertedFrom: null, sha256: row.sha256 });
    expect(await media.take(workspaceId, { mediaId: again.id }, 'voice')).toMatchObject({
      id: again.id,
      convertedFrom: null,
    });
    expect(filesIn('spool')).toEqual([]);
  });

  it('may be stored already', async () => {
    const stored = await take('a.mp3', 'audio');
    expect(stored).toMatchObject({ convertedFrom: null, mimetype: 'audio/mpeg' });
    const sent = await media.take(workspaceId, { mediaId: stored.id }, 'voice');
    expect(sent).toMatchObject({ convertedFrom: 'audio/mpeg', mimetype: 'audio/ogg; codecs=opus' });
    expect(sent.id).not.toBe(stored.id);
  });

  it('is refused if it has no sound, is damaged or names other files, and leaves nothing', async () => {
    const damaged = Buffer.concat([Buffer.from('ID3\x03\0\0\0\0\0\x0a'), Buffer.alloc(3_000, 0xff)]);
    const silent = Buffer.concat([
      Buffer.from('\0\0\0\x18ftypisom\0\0\x02\0isomiso2'),
      Buffer.alloc(4_000, 7),
    ]);
    for (const bytes of [damaged, silent])
      await expect(take('x.mp3', 'voice', bytes)).rejects.toMatchObject({
        status: 422,
        code: 'media.not_convertible',
      });
    // A playlist is no sound by its type. Its reader in ffmpeg must not run in any case: it would read the file that it names.
    const playlist = `#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\nfile://${join(dir, 'a.wav')}\n#EXT-X-ENDLIST\n`;
    const spool = context.get(MediaSpool);
    const file = await spool.receive(Readable.from([Buffer.from(playlist)]), maxBytes);
    await expect(
      context.get(MediaConverter).convert(workspaceId, file, 'audio/mpeg', 'voice', maxBytes),
    ).rejects.toMatchObject({
      code: 'media.not_convertible',
    });
    await spool.drop(file);
    expect([...filesIn('spool'), ...filesIn('files')]).toEqual([]);
  });

  it('takes a bounded part of the machine, and says so when its program is missing', async () => {
    const [go, bounds, program] = ['go', 'bounds', 'slow-ffmpeg'].map((name) => join(dir, name)) as [
      string,
      string,
      string,
    ];
    writeFileSync(
      program,
      `#!/bin/sh\nulimit -v >> ${bounds}\nuntil [ -e ${go} ]; do sleep 0.02; done\nexit 1\n`,
      { mode: 0o755 },
    );
    const spool = context.get(MediaSpool);
    const converterWith = (ffmpegPath: string | null) =>
      new MediaConverter(spool, { media: { ffmpegPath } } as Config);
    const file = await spool.receive(Readable.from([sources.get('a.wav')!]), maxBytes);
    const convert = (converter: MediaConverter) =>
      converter.convert(uuidv7(), file, 'audio/wav', 'voice', maxBytes);
    for (const missing of [null, join(dir, 'no-such-program')])
      await expect(convert(converterWith(missing))).rejects.toMatchObject({
        status: 503,
        code: 'media.converter_missing',
      });
    const slow = converterWith(program);
    const running = Array.from({ length: 34 }, () => convert(slow).catch((error: Problem) => error.code));
    await eventually(
      'two run',
      () => existsSync(bounds) && readFileSync(bounds, 'utf8').split('\n').length > 2,
    );
    await expect(convert(slow)).rejects.toMatchObject({ status: 429, code: 'media.too_many_conversions' });
    // In kilobytes, for two processes and no third.
    expect(readFileSync(bounds, 'utf8')).toBe('1048576\n1048576\n');
    writeFileSync(go, '');
    expect(new Set(await Promise.all(running))).toEqual(new Set(['media.not_convertible']));
    await spool.drop(file);
    // A workspace has eight places, and leaves the others to its neighbours.
    rmSync(go);
    const { media: settings } = context.get<Config>(CONFIG);
    const { ffmpegPath } = settings;
    settings.ffmpegPath = program;
    try {
      const codes: string[] = [];
      const taking = Array.from({ length: 9 }, () =>
        take('a.wav').catch((error: Problem) => codes.push(error.code)),
      );
      await eventually('the ninth is refused', () => codes.length > 0);
      expect(codes).toEqual(['media.too_many_conversions']);
      // However slow its files are, one workspace leaves a place to the others.
      const other = await insertWorkspace(database);
      const data = base64(await sharp(png).webp().toBuffer());
      expect(await media.take(other, { data }, 'image')).toMatchObject({ convertedFrom: 'image/webp' });
      expect(codes).toHaveLength(1);
      writeFileSync(go, '');
      await Promise.all(taking);
      expect(codes.slice(1)).toEqual(Array.from({ length: 8 }, () => 'media.not_convertible'));
    } finally {
      settings.ffmpegPath = ffmpegPath;
    }
    expect(filesIn('spool')).toEqual([]);
  });
});

/** A picture of 64 × 32 pixels: red and, right of that, what is given. */
function halves(right: string | null): Sharp {
  const background = right ?? { r: 0, g: 0, b: 0, alpha: 0 };
  const red = { create: { width: 32, height: 32, channels: 4 as const, background: '#dc1e1e' } };
  return sharp({ create: { width: 64, height: 32, channels: 4, background } }).composite([
    { input: red, left: 0, top: 0 },
  ]);
}

/** The colours of a picture in its first and its last corner, roughly: a JPEG changes them a little. */
async function cornersOf(bytes: Buffer): Promise<string[]> {
  const { data, info } = await sharp(bytes).raw().toBuffer({ resolveWithObject: true });
  const name = (from: number) => {
    const [r = 0, g = 0, b = 0, alpha = 255] = data.subarray(from, from + info.channels);
    if (alpha < 50) return 'transparent';
    return [r > 150 ? 'r' : '', g > 150 ? 'g' : '', b > 150 ? 'b' : ''].join('');
  };
  return [name(0), name(data.length - info.channels)];
}

const blue = '#1e1edc';
/** ffmpeg with the same picture that moves: 12 frames of 0.1 seconds, transparent on the right. */
function moving(path: string, ...output: string[]): Buffer {
  const filters = `testsrc2=s=75x41:r=10:d=1.2,format=rgba,pad=101:41:0:0:color=#00000000`;
  execFileSync('ffmpeg', [
    ...['-nostdin', '-loglevel', 'error', '-y', '-f', 'lavfi', '-i', filters],
    ...[...output, path],
  ]);
  return readFileSync(path);
}

const transparentGif = ['-vf', 'split[a][b];[a]palettegen=reserve_transparent=1[p];[b][p]paletteuse'];

interface Stream {
  codec_name: string;
  pix_fmt: string;
  width: number;
  height: number;
  duration: string;
}
function streamsOf(bytes: Buffer): Stream[] {
  const path = join(dir, 'probed');
  writeFileSync(path, bytes);
  const shown = execFileSync('ffprobe', ['-v', 'error', '-show_streams', '-of', 'json', path]);
  return (JSON.parse(String(shown)) as { streams: Stream[] }).streams;
}

const takeAs = (type: string, bytes: Buffer, filename = 'mine.bin') =>
  media.take(workspaceId, { data: base64(bytes), filename }, type);

describe('a picture that phones cannot show', () => {
  const sources: [
    name: string,
    from: string,
    make: () => Promise<Buffer>,
    size: number[],
    corners: string[],
  ][] = [
    ['HEIC', 'image/heic', async () => heicFiles.plain, [64, 32], ['r', 'b']],
    ['HEIC that is turned', 'image/heic', async () => heicFiles.turned, [32, 64], ['r', 'b']],
    ['transparent HEIC', 'image/heic', async () => heicFiles.transparent, [64, 32], ['r', 'rgb']],
    ['AVIF', 'image/avif', () => halves(blue).avif({ effort: 0 }).toBuffer(), [64, 32], ['r', 'b']],
    [
      'transparent AVIF',
      'image/avif',
      () => halves(null).avif({ effort: 0 }).toBuffer(),
      [64, 32],
      ['r', 'rgb'],
    ],
    ['AVIF under the general name', 'image/heif', generalAvif, [64, 32], ['r', 'b']],
    ['TIFF', 'image/tiff', () => halves(blue).tiff().toBuffer(), [64, 32], ['r', 'b']],
    [
      'TIFF that is turned',
      'image/tiff',
      async () =>
        sharp(await halves(blue).png().toBuffer())
          .rotate(-90)
          .withMetadata({ orientation: 6 })
          .tiff()
          .toBuffer(),
      [64, 32],
      ['r', 'b'],
    ],
    ['transparent WebP', 'image/webp', () => halves(null).webp().toBuffer(), [64, 32], ['r', 'rgb']],
    ['GIF', 'image/gif', () => halves(null).gif().toBuffer(), [64, 32], ['r', 'rgb']],
    ['BMP', 'image/bmp', () => byFfmpeg('x.bmp'), [64, 32], ['r', 'b']],
    ['JPEG 2000', 'image/jp2', () => byFfmpeg('x.jp2'), [64, 32], ['r', 'b']],
  ];
  /** Some programs name only the container. */
  async function generalAvif(): Promise<Buffer> {
    const avif = await halves(blue).avif({ effort: 0 }).toBuffer();
    avif.write('mif1', 8, 'latin1');
    return avif;
  }
  async function byFfmpeg(name: string): Promise<Buffer> {
    await halves(blue).png().toFile(join(dir, 'halves.png'));
    const path = join(dir, name);
    execFileSync('ffmpeg', ['-loglevel', 'error', '-y', '-i', join(dir, 'halves.png'), path]);
    return readFileSync(path);
  }

  it.each(sources)('becomes a JPEG: %s', async (_name, from, make, [width, height], corners) => {
    const bytes = await make();
    const row = await takeAs('image', bytes, 'Holiday 7.heic');
    expect(row).toMatchObject({ convertedFrom: from, mimetype: 'image/jpeg', filename: 'Holiday 7.jpg' });
    const converted = await buffer(await media.open(row.id));
    const { orientation = 1, ...found } = await sharp(converted).metadata();
    expect({ ...found, orientation }).toMatchObject({ format: 'jpeg', width, height, orientation: 1 });
    expect(await cornersOf(converted)).toEqual(corners);
    // As a document it stays as it is.
    const stored = await takeAs('document', bytes);
    expect(stored).toMatchObject({ convertedFrom: null, mimetype: from, size: bytes.length });
    expect((await media.take(workspaceId, { mediaId: stored.id }, 'image')).sha256).toBe(row.sha256);
    expect(filesIn('spool')).toEqual([]);
  });

  it('keeps its colours, and tells no place', async () => {
    const { id } = await takeAs('image', heicFiles.wide);
    const { data } = await sharp(await buffer(await media.open(id)))
      .raw()
      .toBuffer({ resolveWithObject: true });
    // As sRGB. The file has them in Display P3, where the same red has other numbers.
    [200, 50, 50].forEach((value, channel) => expect(Math.abs(data[channel]! - value)).toBeLessThan(4));
    const exif = { IFD0: { ImageDescription: 'secret-place' } };
    const tiff = await halves(blue).withExif(exif).webp().toBuffer();
    expect(tiff.includes('secret-place')).toBe(true);
    const converted = await buffer(await media.open((await takeAs('image', tiff)).id));
    expect(converted.includes('secret-place')).toBe(false);
  });

  it('stays as it is if it is a JPEG or PNG', async () => {
    for (const format of ['jpeg', 'png'] as const) {
      const bytes = await halves(blue)[format]().toBuffer();
      expect(await takeAs('image', bytes)).toMatchObject({
        convertedFrom: null,
        mimetype: `image/${format}`,
        size: bytes.length,
      });
    }
  });

  it('is refused if it is damaged or too large, or if its form is not safe, and leaves nothing', async () => {
    const avif = await halves(blue).avif({ effort: 0 }).toBuffer();
    const [heicEnd, avifEnd] = [heicFiles.plain, avif].map((bytes) => bytes.subarray(0, bytes.length / 2));
    // One colour compresses well: these have 60 million pixels each.
    const wide = { create: { width: 10_000, height: 6_000, channels: 3 as const, background: 'red' } };
    const bomb = await sharp(wide).webp({ effort: 0 }).toBuffer();
    const heicBomb = Buffer.from(heicFiles.plain);
    for (let at = heicBomb.indexOf('ispe'); at !== -1; at = heicBomb.indexOf('ispe', at + 1))
      [0xffff, 0xffff].forEach((side, index) => heicBomb.writeUInt32BE(side, at + 8 + 4 * index));
    for (const bytes of [heicEnd!, avifEnd!, bomb, heicBomb])
      await expect(takeAs('image', bytes)).rejects.toMatchObject({
        status: 422,
        code: 'media.not_convertible',
      });
    const svg =
      '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>';
    await expect(takeAs('image', Buffer.from(svg))).rejects.toMatchObject({
      code: 'media.type_mismatch',
      message: expect.stringContaining('Send it as document'),
    });
    // Only the decoder of its type runs, whatever the bytes are.
    const spool = context.get(MediaSpool);
    const file = await spool.receive(Readable.from([Buffer.from(svg)]), maxBytes);
    for (const type of ['image/tiff', 'image/heic', 'image/bmp'])
      await expect(
        context.get(MediaConverter).convert(workspaceId, file, type, 'image', maxBytes),
      ).rejects.toMatchObject({
        code: 'media.not_convertible',
      });
    await spool.drop(file);
    expect([...filesIn('spool'), ...filesIn('files')]).toEqual([]);
  });
});

describe('a program that converts', () => {
  const run = (given: Partial<BoundedRun>) =>
    runBounded({
      program: process.execPath,
      arguments: [],
      memory: 'data',
      maxFileBytes: 1_000,
      timeoutMs: 20_000,
      ...given,
    });

  it('has bounded memory, files and time, and not the environment of Flotilla', async () => {
    const path = join(dir, 'written');
    const script = (text: string) => ({ arguments: ['-e', text] });
    await run(script(`require('fs').writeFileSync('${path}', JSON.stringify(process.env))`));
    expect(Object.keys(JSON.parse(readFileSync(path, 'utf8')) as object)).toEqual(['PATH']);
    const megabytes = (count: number) => script(`Buffer.alloc(${count} * 2 ** 20, 1)`);
    await run(megabytes(300));
    await expect(run(megabytes(1_200))).rejects.toThrow('allocation failed');
    await expect(run(script(`require('fs').writeFileSync('${path}', 'x'.repeat(2_000))`))).rejects.toThrow();
    await expect(run({ ...script('for (;;);'), timeoutMs: 300 })).rejects.toMatchObject({
      code: 'ETIMEDOUT',
    });
    await expect(run({ program: join(dir, 'missing') })).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('says that it is missing if sharp has no build for this machine', async () => {
    const program = join(dir, 'picture.main.mjs');
    copyFileSync(join(projectRoot, 'dist/src/media/picture.main.js'), program);
    const alone = run({ arguments: [program, 'image', 'image/webp', 'a', 'b'] });
    await expect(alone).rejects.toMatchObject({ code: 'ENOENT' });
    expect(new ConverterMissing('sharp', 'image').message).toBe(
      'Flotilla cannot convert this file to a JPEG, because sharp is not installed on the server. Send a JPEG or PNG, or send the file as a document. Or let the operator install Flotilla on a machine that has a build of sharp.',
    );
  });

  it('that is missing refuses before the message is accepted, and only what needs it', async () => {
    const { media: settings } = context.get<Config>(CONFIG);
    const { ffmpegPath } = settings;
    settings.ffmpegPath = null;
    try {
      const gif = moving(join(dir, 'm.gif'));
      for (const [type, bytes] of [
        ['gif', gif],
        ['sticker', gif],
        ['voice', files.mp3],
      ] as const)
        await expect(takeAs(type, bytes)).rejects.toMatchObject({
          status: 503,
          code: 'media.converter_missing',
        });
      expect(await takeAs('image', gif)).toMatchObject({ convertedFrom: 'image/gif' });
      expect(await takeAs('gif', files.mp4)).toMatchObject({ convertedFrom: null });
    } finally {
      settings.ffmpegPath = ffmpegPath;
    }
  });
});

describe('a video that plays as a GIF', () => {
  const gif = () => moving(join(dir, 'a.gif'), ...transparentGif);
  it.each([
    ['GIF', 'image/gif', async () => gif()],
    ['animated PNG', 'image/apng', async () => moving(join(dir, 'a.apng'), '-f', 'apng')],
    [
      'animated WebP',
      'image/webp',
      async () => sharp(gif(), { animated: true }).webp({ effort: 0 }).toBuffer(),
    ],
    ['WebM', 'video/webm', async () => moving(join(dir, 'a.webm'))],
    ['QuickTime', 'video/quicktime', async () => moving(join(dir, 'a.mov'), '-c:v', 'mpeg4')],
  ])('becomes an MP4 that every phone plays: %s', async (_name, from, make) => {
    const bytes = await make();
    const row = await takeAs('gif', bytes, 'cat.x');
    expect(row).toMatchObject({ convertedFrom: from, mimetype: 'video/mp4', filename: 'cat.mp4' });
    const mp4 = await buffer(await media.open(row.id));
    expect(streamsOf(mp4)).toEqual([
      expect.objectContaining({ codec_name: 'h264', pix_fmt: 'yuv420p', width: 100, height: 40 }),
    ]);
    expect(Math.abs(Number(streamsOf(mp4)[0]!.duration) - 1.2)).toBeLessThan(0.15);
    // A phone plays it while it loads: what it needs to know is at the beginning.
    expect(mp4.indexOf('moov')).toBeLessThan(mp4.indexOf('mdat'));
    expect((await takeAs('gif', bytes, 'cat.x')).id).toBe(row.id);
    if (from !== 'image/gif') return;
    execFileSync('ffmpeg', [
      '-loglevel',
      'error',
      '-y',
      '-i',
      join(dir, 'probed'),
      '-frames:v',
      '1',
      join(dir, 'first.png'),
    ]);
    expect((await cornersOf(readFileSync(join(dir, 'first.png'))))[1]).toBe('rgb');
  });

  it('stays as it is if it is an MP4, and is refused if it is no film', async () => {
    const mp4 = moving(join(dir, 'a.mp4'), '-pix_fmt', 'yuv420p', '-vf', 'pad=102:42');
    expect(await takeAs('gif', mp4)).toMatchObject({ convertedFrom: null, size: mp4.length });
    await expect(takeAs('gif', png)).rejects.toMatchObject({ code: 'media.type_mismatch' });
    await expect(takeAs('gif', gif().subarray(0, 40))).rejects.toMatchObject({
      code: 'media.not_convertible',
    });
    // Without gif: true, a GIF is no video: the error tells how to send it.
    await expect(takeAs('video', gif())).rejects.toMatchObject({
      code: 'media.type_mismatch',
      message: 'image/gif cannot be sent as video. Send it as image or document, or add gif: true.',
    });
  });
});

describe('a sticker', () => {
  it.each([
    ['PNG', 'image/png', () => halves(null).png().toBuffer(), 'transparent'],
    ['JPEG', 'image/jpeg', () => halves(blue).jpeg().toBuffer(), 'b'],
    ['HEIC', 'image/heic', async () => heicFiles.plain, 'b'],
    ['AVIF', 'image/avif', () => halves(null).avif({ effort: 0 }).toBuffer(), 'transparent'],
  ])('of a picture becomes WebP: %s', async (_name, from, make, right) => {
    const row = await takeAs('sticker', await make(), 'hello.x');
    expect(row).toMatchObject({ convertedFrom: from, mimetype: 'image/webp', filename: 'hello.webp' });
    const webp = await buffer(await media.open(row.id));
    const { pages = 1, ...found } = await sharp(webp).metadata();
    expect({ ...found, pages }).toMatchObject({ format: 'webp', width: 512, height: 512, pages: 1 });
    expect(webp.length).toBeLessThan(100_000);
    // The picture is in the middle, and all around it is transparent.
    expect(await cornersOf(webp)).toEqual(['transparent', 'transparent']);
    const middle = await sharp(webp).extract({ left: 0, top: 200, width: 512, height: 100 }).toBuffer();
    expect(await cornersOf(middle)).toEqual(['r', right]);
  });

  it.each([
    ['GIF', 'image/gif', () => moving(join(dir, 's.gif'), ...transparentGif), 'transparent'],
    ['animated PNG', 'image/apng', () => moving(join(dir, 's.apng'), '-f', 'apng'), 'transparent'],
    ['MP4', 'video/mp4', () => moving(join(dir, 's.mp4'), '-vf', 'pad=102:42', '-pix_fmt', 'yuv420p'), ''],
  ])('that moves keeps its motion: %s', async (_name, from, make, right) => {
    const row = await takeAs('sticker', make(), 'dance.x');
    expect(row).toMatchObject({ convertedFrom: from, mimetype: 'image/webp', filename: 'dance.webp' });
    const webp = await buffer(await media.open(row.id));
    const { pages = 1, delay = [], loop, ...found } = await sharp(webp).metadata();
    expect({ ...found, loop }).toMatchObject({ format: 'webp', width: 512, height: 512, loop: 0 });
    expect(pages).toBeGreaterThan(8);
    expect(Math.abs(delay.reduce((sum, ms) => sum + ms, 0) - 1_200)).toBeLessThan(150);
    expect(webp.length).toBeLessThan(500_000);
    const middle = await sharp(webp).extract({ left: 0, top: 226, width: 508, height: 60 }).toBuffer();
    expect((await cornersOf(middle))[1]).toBe(right);
  });

  it('that moves has less quality and fewer frames before it is too large, and lasts ten seconds', async () => {
    const noise = 'nullsrc=s=40x40:r=20:d=12,geq=random(1)*255:128:128';
    const path = join(dir, 'noise.gif');
    execFileSync('ffmpeg', ['-loglevel', 'error', '-y', '-f', 'lavfi', '-i', noise, path]);
    const row = await takeAs('sticker', readFileSync(path));
    expect(row.size).toBeLessThan(500_000);
    const { pages = 1, delay = [] } = await sharp(await buffer(await media.open(row.id))).metadata();
    expect(pages).toBeGreaterThan(40);
    expect(Math.abs(delay.reduce((sum, ms) => sum + ms, 0) - 10_000)).toBeLessThan(300);
  }, 60_000);

  it('that is a WebP stays as it is', async () => {
    const webp = await halves(blue).webp().toBuffer();
    expect(await takeAs('sticker', webp)).toMatchObject({ convertedFrom: null, size: webp.length });
    const animated = await sharp(moving(join(dir, 't.gif')), { animated: true })
      .webp({ effort: 0 })
      .toBuffer();
    expect(await takeAs('sticker', animated)).toMatchObject({ convertedFrom: null, size: animated.length });
  });
});

describe('the same bytes', () => {
  it('under the same name are the same media, under another name a second media of the same file', async () => {
    const data = base64(newPng());
    const first = await media.take(workspaceId, { data, filename: 'a.png' });
    const again = await media.take(workspaceId, { data, filename: 'a.png' });
    expect(again.id).toBe(first.id);
    expect(again.lastUsedAt.getTime()).toBeGreaterThan(first.lastUsedAt.getTime());
    const other = await media.take(workspaceId, { data, filename: 'b.png' });
    expect(other.id).not.toBe(first.id);
    expect(other.blobId).toBe(first.blobId);
  });

  it('of two workspaces are stored once, and removed with the last media', async () => {
    const bytes = newPng();
    const another = await newWorkspace();
    const mine = await media.take(workspaceId, { data: base64(bytes) });
    const theirs = await media.take(another, { data: base64(bytes) });
    expect(theirs.id).not.toBe(mine.id);
    await expect(media.get(another, mine.id)).rejects.toMatchObject({ status: 404 });
    await expect(media.delete(another, mine.id)).rejects.toMatchObject({ status: 404 });
    await expect(media.take(another, { mediaId: mine.id })).rejects.toMatchObject({ status: 404 });
    await blobs.removeUnused();
    expect(filesIn('files')).toHaveLength(1);
    await media.delete(workspaceId, mine.id);
    await blobs.removeUnused();
    expect(await buffer(await media.open(theirs.id))).toEqual(bytes);
    await database.query('delete from workspaces where id = $1', [another]);
    expect(await blobs.removeUnused()).toBe(1);
    expect(filesIn('files')).toEqual([]);
    expect(await database.query('select from media_blobs')).toEqual([]);
  });

  it('survive any order of uploads, deletions and removals at the same time', async () => {
    const data = base64(newPng());
    const shared = await newWorkspace();
    const workspaces = [workspaceId, await newWorkspace(), shared, shared];
    let failures = 0;
    const turn = async (owner: string) => {
      const row = await media.take(owner, { data });
      // A media that was just taken can be read, whatever was deleted at the same time.
      if ((await buffer(await media.open(row))).toString('base64') !== data) failures += 1;
      await media.delete(owner, row.id);
    };
    const work = async (owner: string) => {
      for (let count = 0; count < 15; count += 1)
        await turn(owner).catch((error: { code?: string }) => {
          // Two calls of one workspace take the same media: one deletes it before the other ends.
          const isGone = error.code === 'media.not_found' || error.code === 'media.blob_missing';
          if (owner !== shared || !isGone) throw error;
        });
    };
    let isDone = false;
    const remove = async () => {
      while (!isDone) await blobs.removeUnused();
    };
    const removing = [remove(), remove()];
    try {
      await Promise.all(workspaces.map(work));
    } finally {
      isDone = true;
      await Promise.all(removing);
    }
    for (const owner of workspaces) await media.take(owner, { data });
    await blobs.removeUnused();
    expect(failures).toBe(0);
    expect(filesIn('files')).toHaveLength(1);
    expect(await findings()).toEqual([]);
    expect(await database.query('select state, refs from media_blobs')).toEqual([{ state: 'kept', refs: 3 }]);
  });
});

describe('a message', () => {
  it('that is not sent yet keeps its media, from deletion and from age', async () => {
    const { id } = await media.take(workspaceId, { data: base64(newPng()) });
    const message = await newMessage(id, 'queued');
    await database.query(`update media set last_used_at = now() - interval '1 year'`);
    await expect(media.delete(workspaceId, id)).rejects.toMatchObject({ status: 409, code: 'media.in_use' });
    expect(await blobs.prune()).toBe(0);
    await database.query(`update messages set status = 'sent' where id = $1`, [message]);
    expect(await blobs.prune()).toBe(1);
    await expect(media.get(workspaceId, id)).rejects.toMatchObject({ code: 'media.not_found' });
  });

  it('cannot be accepted with media that is gone', async () => {
    const { id } = await media.take(workspaceId, { data: base64(newPng()) });
    await media.delete(workspaceId, id);
    await expect(newMessage(id)).rejects.toMatchObject({ driverError: { code: '23503' } });
  });

  it('takes only media that WhatsApp lets its type carry', async () => {
    const picture = { data: base64(newPng()) };
    const { id } = await media.take(workspaceId, picture, 'image');
    expect((await media.take(workspaceId, { mediaId: id }, 'document')).id).toBe(id);
    for (const source of [{ data: base64(newPng()) }, { mediaId: id }])
      await expect(media.take(workspaceId, source, 'video')).rejects.toMatchObject({
        code: 'media.type_mismatch',
        message: expect.stringContaining('image/png cannot be sent as video'),
      });
    // A refused file is not kept, and does not count.
    expect(filesIn('files')).toHaveLength(1);
    expect(await media.list(workspaceId, { limit: 9 })).toHaveLength(1);
  });
});

describe('the time that media is kept', () => {
  it('counts from its last use', async () => {
    const old = await media.take(workspaceId, { data: base64(newPng()) });
    const used = await media.take(workspaceId, { data: base64(newPng()) });
    await database.query(`update media set last_used_at = now() - interval '91 days'`);
    await media.take(workspaceId, { mediaId: used.id });
    expect(await blobs.prune()).toBe(1);
    await expect(media.get(workspaceId, old.id)).rejects.toMatchObject({ status: 404 });
    expect((await media.get(workspaceId, used.id)).id).toBe(used.id);
    expect(await blobs.prune(null)).toBe(0);
  });
});

describe('a reader', () => {
  it('that reads nothing for a time is disconnected, and the file is closed', async () => {
    const row = await media.take(workspaceId, { data: base64(newPng()) });
    const endless = new Readable({ read: () => endless.push(Buffer.alloc(65_536)) });
    const closed = new Promise((resolve) => endless.on('error', () => undefined).once('close', resolve));
    const server = express()
      .get('/', (request, response) =>
        sendMedia(request, response, { ...row, size: 2 ** 40 }, async () => endless),
      )
      .listen(0, '127.0.0.1');
    destroyStalledSockets(server, 300);
    await once(server, 'listening');
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    socket.on('error', () => undefined).pause();
    socket.write('GET / HTTP/1.1\r\nHost: test\r\n\r\n');
    await closed;
    socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  }, 30_000);
});

describe('the limit of a workspace', () => {
  it('holds, even with concurrent uploads', async () => {
    const files = Array.from({ length: 6 }, () => newPng());
    await database.query('update workspaces set max_storage_bytes = $1', [files[0]!.length * 3]);
    const outcomes = await Promise.allSettled(
      files.map((bytes) => media.take(workspaceId, { data: base64(bytes) })),
    );
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected')
        expect(outcome.reason).toMatchObject({ status: 413, code: 'workspace.storage_limit' });
    }
    await blobs.removeUnused();
    expect(filesIn('files')).toHaveLength(3);
  });
});

describe('a damaged storage', () => {
  it('is reported: missing, damaged and stray files', async () => {
    const rows: Media[] = [];
    for (let count = 0; count < 3; count += 1)
      rows.push(await media.take(workspaceId, { data: base64(newPng()) }));
    const pathOf = (index: number) => filesIn('files').find((path) => path.includes(rows[index]!.sha256))!;
    writeFileSync(pathOf(1), 'short');
    rmSync(pathOf(0));
    const sha256 = '0'.repeat(64);
    const [old, young] = [blobKey({ sha256, blobId: uuidv7() }), blobKey({ sha256, blobId: uuidv7() })];
    const others = ['stray.bin', `00/${sha256}.${'-'.repeat(36)}`];
    mkdirSync(join(dir, 'files', '00'), { recursive: true });
    for (const key of [old, young, ...others]) writeFileSync(join(dir, 'files', key), 'x');
    const twoDaysAgo = Date.now() / 1_000 - 2 * 86_400;
    for (const key of [old, ...others]) utimesSync(join(dir, 'files', key), twoDaysAgo, twoDaysAgo);
    expect(await findings()).toEqual([
      expect.objectContaining({ problem: 'missing', mediaIds: [rows[0]!.id] }),
      expect.objectContaining({ problem: 'damaged', mediaIds: [rows[1]!.id] }),
      { problem: 'stray', key: old, mediaIds: [] },
    ]);
    await expect(media.open(rows[0]!)).rejects.toMatchObject({ status: 500, code: 'media.blob_missing' });
    for (const key of [old, ...others]) await blobs.removeStray(key);
    expect(filesIn('files')).not.toContain(join(dir, 'files', old));
    for (const key of [young, ...others]) {
      expect(filesIn('files')).toContain(join(dir, 'files', key));
      rmSync(join(dir, 'files', key));
    }
  });

  it.each<[string, (path: string) => void]>([
    ['lost', (path) => rmSync(path)],
    ['damaged', (path) => writeFileSync(path, 'short')],
  ])('with a file that is %s gets it back when a workspace uploads it again', async (_how, spoil) => {
    const data = base64(newPng());
    const others = await newWorkspace();
    const mine = await media.take(workspaceId, { data });
    const theirs = await media.take(others, { data });
    const spoilIt = () => filesIn('files').forEach(spoil);
    spoilIt();
    expect((await media.take(workspaceId, { data })).id).toBe(mine.id);
    expect((await buffer(await media.open(theirs.id))).toString('base64')).toBe(data);
    spoilIt();
    await media.take(await newWorkspace(), { data, filename: 'another.png' });
    expect((await buffer(await media.open(mine.id))).toString('base64')).toBe(data);
    await blobs.removeUnused();
    expect(await findings()).toEqual([]);
    expect(await database.query('select state, refs from media_blobs')).toEqual([{ state: 'kept', refs: 3 }]);
  });

  it('without its directory, as if it is not mounted, loses nothing', async () => {
    const data = base64(newPng());
    const row = await media.take(workspaceId, { data });
    const unavailable = { status: 503, code: 'media.storage_unavailable' };
    renameSync(join(dir, 'files'), join(dir, 'elsewhere'));
    try {
      await expect(media.open(row)).rejects.toMatchObject(unavailable);
      await expect(media.take(workspaceId, { data: base64(newPng()) })).rejects.toMatchObject(unavailable);
      await expect(findings()).rejects.toMatchObject(unavailable);
    } finally {
      renameSync(join(dir, 'elsewhere'), join(dir, 'files'));
    }
    expect((await buffer(await media.open(row))).toString('base64')).toBe(data);
  });

  it('with one file that cannot be removed still removes the others', async () => {
    const rows: Media[] = [];
    for (let count = 0; count < 3; count += 1)
      rows.push(await media.take(workspaceId, { data: base64(newPng()) }));
    const [stuck] = filesIn('files').filter((path) => path.includes(rows[1]!.sha256));
    rmSync(stuck!);
    mkdirSync(stuck!);
    for (const { id } of rows) await media.delete(workspaceId, id);
    expect(await blobs.removeUnused()).toBe(2);
    rmdirSync(stuck!);
    expect(await blobs.removeUnused()).toBe(1);
  });

  it('with a file of a process that died removes it after a day, not before', async () => {
    await database.query('select write_media_blob($1, $2, 1)', [uuidv7(), randomBytes(32)]);
    const left = join(dir, 'spool', 'left');
    writeFileSync(left, 'half');
    const spool = context.get(MediaSpool);
    expect([await spool.removeAbandoned(), await blobs.removeUnused()]).toEqual([0, 0]);
    await database.query(`update media_blobs set created_at = now() - interval '25 hours'`);
    utimesSync(left, Date.now() / 1_000 - 90_000, Date.now() / 1_000 - 90_000);
    expect([await spool.removeAbandoned(), await blobs.removeUnused()]).toEqual([1, 1]);
  });
});
