import fc from 'fast-check';
import {
  appendFileSync,
  closeSync,
  existsSync,
  futimesSync,
  openSync,
  readdirSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import {
  appendFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { gunzipSync, gzipSync } from 'node:zlib';
import { Header } from 'tar';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  markProfile,
  packProfile,
  ProfileArchiveDamaged,
  ProfileBusy,
  profileDigest,
  profileEpoch,
  ProfileTooLarge,
  pruneCaches,
  recoverProfile,
  unpackProfile,
} from '../../src/whatsapp/browser/archive.js';

const unlimited = 2 ** 30;
let root: string;
let profile: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'profiles-'));
  profile = join(root, 'session-1');
});
afterEach(() => rm(root, { recursive: true, force: true, maxRetries: 5 }));

type Files = Record<string, Uint8Array | string>;

async function write(dir: string, files: Files): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(dir, path)), { recursive: true });
    await writeFile(join(dir, path), content);
  }
}

/** The files of a directory with their contents as hex, without the mark of Flotilla. */
async function contentsOf(dir: string): Promise<Record<string, string>> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(dir.length + 1))
    .filter((path) => path !== 'flotilla.json')
    .sort();
  return Object.fromEntries(
    await Promise.all(paths.map(async (path) => [path, (await readFile(join(dir, path))).toString('hex')])),
  );
}

const hex = (files: Files) =>
  Object.fromEntries(
    Object.entries(files).map(([path, content]) => [path, Buffer.from(content).toString('hex')]),
  );

async function pack(dir = profile): Promise<Buffer> {
  return (await packProfile(dir, true, unlimited)).archive;
}

/** Copies that were left behind beside the profiles. */
async function leftovers(): Promise<string[]> {
  return (await readdir(root)).filter((name) => name.includes('.'));
}

/**
 * Waits until the profile is listed and its first file is being copied. It checks in each turn of the event loop, and this
 * thread copies the files. So a synchronous action of the caller happens during the copying, however busy the machine is.
 */
async function untilCopying(): Promise<void> {
  for (;;) {
    const copy = readdirSync(root).find((name) => name.includes('.'));
    if (copy && readdirSync(join(root, copy)).length > 0) return;
    await turn();
  }
}

const credentials: Files = {
  'Local State': '{}',
  'Default/Preferences': '{"a":1}',
  'Default/Cookies': 'cookies',
  'Default/Network/Cookies': 'cookies',
  'Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.leveldb/000003.log': 'keys',
  'Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.leveldb/CURRENT': 'MANIFEST-000001',
  // These have names of caches, but the site stored them.
  'Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.blob/1/00/Cache': 'a blob',
  'Default/File System/000/t/Service Worker/blob_storage': 'a file',
  'Default/Local Storage/leveldb/000003.log': 'token',
  'Default/Local Storage/leveldb/000005.ldb': 'tokens',
  'Default/WebStorage/QuotaManager': 'quota',
};

const caches: Files = {
  'Default/Cache/Cache_Data/index': 'x',
  'Default/Code Cache/js/index': 'x',
  'Default/GPUCache/data_0': 'x',
  'Default/DawnGraphiteCache/data_0': 'x',
  'Default/DawnWebGPUCache/data_0': 'x',
  'Default/Service Worker/CacheStorage/1/index.txt': 'x',
  'Default/Service Worker/ScriptCache/index': 'x',
  'Default/blob_storage/1/2': 'x',
  'Crashpad/settings.dat': 'x',
  'BrowserMetrics-spare.pma': 'x',
  'component_crx_cache/1': 'x',
  'optimization_guide_model_store/1/model': 'x',
  'Safe Browsing Cookies': 'x',
  'ShaderCache/data_1': 'x',
  'GrShaderCache/data_1': 'x',
};

const ofThisMachine: Files = {
  SingletonLock: 'x',
  DevToolsActivePort: 'x',
  'chrome_debug.log': 'x',
  'flotilla.json': '{"epoch":9}',
};

describe('packing and unpacking', () => {
  it('keeps every file outside the caches, byte for byte', async () => {
    const name = fc.oneof(
      fc.constantFrom('Default', 'IndexedDB', 'Cache', 'GPUCache', 'Service Worker', '000003.log', 'CURRENT'),
      fc.stringMatching(/^[A-Za-z0-9 @_.é-]{1,120}$/).filter((text) => !/^\.{1,2}$/.test(text)),
    );
    const path = fc
      .array(name, { minLength: 1, maxLength: 5 })
      .map((names) => ['Default', 'IndexedDB', ...names]);
    const files = fc.uniqueArray(fc.tuple(path, fc.uint8Array({ maxLength: 3000 })), {
      minLength: 1,
      maxLength: 12,
      // No file may be the folder of another.
      comparator: ([one], [other]) => {
        const shorter = Math.min(one.length, other.length);
        return one.slice(0, shorter).join('/') === other.slice(0, shorter).join('/');
      },
    });
    let run = 0;
    await fc.assert(
      fc.asyncProperty(files, async (generated) => {
        const from = join(root, `from-${(run += 1)}`);
        const wanted = Object.fromEntries(generated.map(([names, content]) => [names.join('/'), content]));
        await write(from, { ...wanted, ...caches });
        const { archive } = await packProfile(from, false, unlimited);
        await unpackProfile(archive, join(root, `to-${run}`), 1);
        expect(await contentsOf(join(root, `to-${run}`))).toEqual(hex(wanted));
      }),
      { numRuns: 30 },
    );
  });

  it('excludes caches, locks and its own mark, but no credentials', async () => {
    await write(profile, { ...credentials, ...caches, ...ofThisMachine });
    await symlink('/etc/passwd', join(profile, 'Default/link'));
    await unpackProfile(await pack(), join(root, 'other'), 4);
    expect(await contentsOf(join(root, 'other'))).toEqual(hex(credentials));
    expect(await profileEpoch(join(root, 'other'))).toBe(4);
    expect((await stat(join(root, 'other'))).mode & 0o777).toBe(0o700);
    expect(await leftovers()).toEqual([]);
  });

  it('gives up on an archive that is too large, and leaves nothing behind', async () => {
    await write(profile, credentials);
    await expect(packProfile(profile, true, 100)).rejects.toThrow(ProfileTooLarge);
    expect(await leftovers()).toEqual([]);
  });

  it('deletes caches on request, and nothing else', async () => {
    await write(profile, { ...credentials, ...caches, ...ofThisMachine });
    await pruneCaches(profile);
    expect(await profileEpoch(profile)).toBe(9);
    await rm(join(profile, 'flotilla.json'));
    const kept = Object.entries({ ...credentials, ...ofThisMachine }).filter(
      ([name]) => name !== 'flotilla.json',
    );
    expect(await contentsOf(profile)).toEqual(hex(Object.fromEntries(kept)));
    await pruneCaches(join(root, 'no such profile'));
  });
});

describe('the digest of a profile', () => {
  it('changes with its files, not with caches or the mark, and equals the digest of the archive', async () => {
    await write(profile, credentials);
    const digest = await profileDigest(profile);
    expect((await packProfile(profile, true, unlimited)).digest).toBe(digest);
    await write(profile, caches);
    await markProfile(profile, 3);
    expect(await profileDigest(profile)).toBe(digest);
    await appendFile(join(profile, 'Default/Local Storage/leveldb/000003.log'), 'x');
    expect(await profileDigest(profile)).not.toBe(digest);
  });

  it('is null if there is nothing to keep', async () => {
    expect(await profileDigest(profile)).toBeNull();
    await write(profile, caches);
    await markProfile(profile, 3);
    expect(await profileDigest(profile)).toBeNull();
  });
});

describe('the mark of a profile', () => {
  it('gives the epoch, or null if it is unreadable', async () => {
    expect(await profileEpoch(profile)).toBeNull();
    await markProfile(profile, 7);
    await markProfile(profile, 8);
    expect(await profileEpoch(profile)).toBe(8);
    expect(await readdir(profile)).toEqual(['flotilla.json']);
    for (const damaged of ['', '{"epo', 'null', '{}', '{"epoch":"8"}', '{"epoch":1.5}']) {
      await writeFile(join(profile, 'flotilla.json'), damaged);
      expect(await profileEpoch(profile), damaged).toBeNull();
    }
  });
});

describe('restoring over an older profile', () => {
  it('replaces the whole profile', async () => {
    await write(profile, credentials);
    const archive = await pack();
    await write(profile, { 'Default/only-here': 'x', 'Default/Cookies': 'older' });
    await unpackProfile(archive, profile, 2);
    expect(await contentsOf(profile)).toEqual(hex(credentials));
    expect(await leftovers()).toEqual([]);
  });

  it('does not change the profile if the archive is damaged', async () => {
    await write(profile, credentials);
    await markProfile(profile, 1);
    const archive = await pack();
    const tar = gunzipSync(archive);
    const damaged: [string, Buffer][] = [
      ['nothing', Buffer.alloc(0)],
      ['no gzip', Buffer.from('this is no archive')],
      ['no tar', gzipSync(Buffer.alloc(4096, 'x'))],
      ['cut off', archive.subarray(0, archive.length - 20)],
      ['cut off in the tar', gzipSync(tar.subarray(0, 700))],
      ['one bit', flipped(archive, archive.length >> 1)],
    ];
    for (const [what, bytes] of damaged) {
      await expect(unpackProfile(bytes, profile, 2), what).rejects.toThrow(ProfileArchiveDamaged);
      expect(await contentsOf(profile), what).toEqual(hex(credentials));
      expect(await profileEpoch(profile), what).toBe(1);
      expect(await leftovers(), what).toEqual([]);
    }
  });

  it('refuses paths outside the profile', async () => {
    for (const path of ['/tmp/flotilla-hostile', '../hostile', 'Default/../../hostile', '..']) {
      const archive = tarOf([{ path: 'Default/Cookies' }, { path }]);
      await expect(unpackProfile(archive, profile, 2), path).rejects.toThrow(/a path outside the profile/);
      expect(await readdir(root), path).toEqual([]);
      expect(existsSync('/tmp/flotilla-hostile')).toBe(false);
    }
  });

  it('drops links, so that no file is written through them', async () => {
    await write(root, { 'outside/secret': 'secret' });
    const archive = tarOf([
      { path: 'Default/Cookies' },
      { path: 'Default/link', type: 'SymbolicLink', linkpath: join(root, 'outside') },
      { path: 'Default/hard', type: 'Link', linkpath: 'Default/Cookies' },
      { path: 'Default/link/secret' },
    ]);
    await unpackProfile(archive, profile, 2);
    expect(await readFile(join(root, 'outside/secret'), 'utf8')).toBe('secret');
    expect(Object.keys(await contentsOf(profile))).toEqual(['Default/Cookies', 'Default/link/secret']);
  });
});

describe('after a crash', () => {
  const older = { 'Default/Cookies': 'older' };
  const newer = { 'Default/Cookies': 'newer' };

  it('restores a profile whose replacement did not finish, and deletes copies', async () => {
    await write(`${profile}.replaced`, older);
    await write(`${profile}.unpacking-abc123`, newer);
    await write(`${profile}.packing-abc123`, newer);
    await write(join(root, 'session-12'), newer);
    await recoverProfile(profile);
    expect(await contentsOf(profile)).toEqual(hex(older));
    expect((await readdir(root)).sort()).toEqual(['session-1', 'session-12']);
  });

  it('keeps the new profile if it was already in its place', async () => {
    await write(`${profile}.replaced`, older);
    await write(profile, newer);
    await recoverProfile(profile);
    expect(await contentsOf(profile)).toEqual(hex(newer));
    expect(await readdir(root)).toEqual(['session-1']);
  });

  it('does nothing if there is no profile', async () => {
    await recoverProfile(join(root, 'none', 'session-1'));
    expect(await readdir(root)).toEqual([]);
  });
});

describe('packing while the browser writes', () => {
  it('copies a LevelDB as it was at one moment, with everything written before', async () => {
    const database = new FakeLevelDb(join(profile, 'Default/IndexedDB/x.leveldb'));
    await database.open();
    // Enough data that copying takes a while.
    for (let file = 0; file < 40; file += 1)
      await write(profile, { [`Default/IndexedDB/x.blob/${file}`]: Buffer.alloc(200_000, file) });
    const writing = database.writeUntilStopped();
    try {
      for (let round = 0; round < 4; round += 1) {
        const before = database.written;
        const packing = pack();
        await untilCopying();
        // Only one kind per round, because a compaction would hide a missing blob.
        database.compactions = round % 2 ? 3 : 0;
        database.blobs = round % 2 ? 0 : 1;
        await unpackProfile(await packing, join(root, `copy-${round}`), 1);
        const copied = await new FakeLevelDb(join(root, `copy-${round}/Default/IndexedDB/x.leveldb`)).read();
        expect(copied).toBeGreaterThanOrEqual(before);
        expect(copied).toBeLessThanOrEqual(database.written);
        expect(database.compactions + database.blobs, 'still to come').toBeLessThan(round % 2 ? 3 : 1);
      }
    } finally {
      await database.stop(writing);
    }
  });

  it('gives up on a profile that changes all the time, and leaves nothing behind', async () => {
    const path = join(profile, 'Default/Cookies');
    await write(profile, { 'Default/Cookies': '' });
    await whileDoing(
      () => appendFileSync(path, 'A'),
      () => expect(pack()).rejects.toThrow(ProfileBusy),
    );
    expect(await leftovers()).toEqual([]);
  });

  it('ends although a file is truncated while it is copied', async () => {
    const path = join(profile, 'Local State');
    for (let round = 0; round < 3; round += 1) {
      await write(profile, { 'Local State': Buffer.alloc(50_000_000, 'A') });
      const packing = packProfile(profile, true, unlimited);
      await untilCopying();
      truncateSync(path, 10);
      const { digest } = await packing;
      expect(digest).toBe(await profileDigest(profile));
    }
    expect(await leftovers()).toEqual([]);
  });

  it('does not trust a file if two writes may have left the same time', async () => {
    // Like a kernel whose clock ticks every 16 ms: two writes of the same size within one tick look equal.
    await write(profile, { 'Default/Cookies': 'AAAA' });
    const file = openSync(join(profile, 'Default/Cookies'), 'r+');
    const writeWithinTick = () => {
      writeSync(file, 'BBBB', 0);
      const tick = new Date(Math.floor(Date.now() / 16) * 16);
      futimesSync(file, tick, tick);
    };
    try {
      await whileDoing(writeWithinTick, () => expect(pack()).rejects.toThrow(ProfileBusy));
    } finally {
      closeSync(file);
    }
  });
});

/** Writes in each turn of the event loop, so that a stalled disk delays both the reader and the writer. */
async function whileDoing(write: () => void, read: () => Promise<void>): Promise<void> {
  let isRead = false;
  const writing = (async () => {
    while (!isRead) {
      write();
      await turn();
    }
  })();
  try {
    await read();
  } finally {
    isRead = true;
    await writing;
  }
}

/**
 * Writes like LevelDB: it appends records to a log. A compaction moves the records to a table, starts a new log, names both
 * in a new manifest, points CURRENT to it, and deletes the old files. A record holds its number, which reveals gaps, and
 * optionally the name of a file that was written before the record.
 */
class FakeLevelDb {
  written = 0;
  /** How many compactions are still to come. */
  compactions = 0;
  /** How many records with a file of their own are still to come. */
  blobs = 0;
  private file = 1;
  private isStopped = false;

  constructor(private readonly dir: string) {}

  async open(): Promise<void> {
    await mkdir(this.dir, { recursive: true });
    await writeFile(this.path('log'), '');
    await this.writeManifest({ log: this.name('log'), tables: [] });
  }

  async writeUntilStopped(): Promise<void> {
    while (!this.isStopped) {
      for (let record = 0; record < 20; record += 1) await this.append('');
      if (this.compactions > 0) await this.compact();
      else if (this.blobs > 0) await this.appendWithBlob();
      await turn();
    }
  }

  private async append(blob: string): Promise<void> {
    await appendFile(this.path('log'), `${this.written} ${blob}\n`);
    this.written += 1;
  }

  private async appendWithBlob(): Promise<void> {
    this.blobs -= 1;
    const name = `blob-${this.written}`;
    await writeFile(join(this.dir, name), 'a blob');
    await this.append(name);
  }

  async stop(writing: Promise<void>): Promise<void> {
    this.isStopped = true;
    await writing;
  }

  /** @returns how many records there are. @throws if a record or a file of the manifest is missing */
  async read(): Promise<number> {
    const manifest = JSON.parse(await this.content(await this.content('CURRENT'))) as Manifest;
    const parts = await Promise.all([...manifest.tables, manifest.log].map((name) => this.content(name)));
    // The last record may be torn, as after a crash.
    const records = parts.join('').split('\n').slice(0, -1);
    for (const [index, record] of records.entries()) {
      const [number, blob] = record.split(' ');
      expect(Number(number)).toBe(index);
      if (blob) await this.content(blob);
    }
    return records.length;
  }

  private async compact(): Promise<void> {
    this.compactions -= 1;
    const before = JSON.parse(await this.content(await this.content('CURRENT'))) as Manifest;
    const old = this.name('log');
    this.file += 1;
    const table = this.name('ldb');
    const parts = await Promise.all([...before.tables, old].map((name) => this.content(name)));
    await writeFile(this.path('ldb'), parts.join(''));
    await writeFile(this.path('log'), '');
    await this.writeManifest({ log: this.name('log'), tables: [table] });
    for (const name of [...before.tables, old]) await rm(join(this.dir, name));
  }

  private async writeManifest(manifest: Manifest): Promise<void> {
    const name = `MANIFEST-${String(this.file).padStart(6, '0')}`;
    await writeFile(join(this.dir, name), JSON.stringify(manifest));
    await writeFile(join(this.dir, 'CURRENT.tmp'), name);
    await rename(join(this.dir, 'CURRENT.tmp'), join(this.dir, 'CURRENT'));
  }

  private name(extension: 'log' | 'ldb'): string {
    return `${String(this.file).padStart(6, '0')}.${extension}`;
  }

  private path(extension: 'log' | 'ldb'): string {
    return join(this.dir, this.name(extension));
  }

  private content(name: string): Promise<string> {
    return readFile(join(this.dir, name), 'utf8');
  }
}

interface Manifest {
  log: string;
  tables: string[];
}

function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at]! ^= 1;
  return copy;
}

/** A gzipped tar of an attacker. Each file holds the word `hostile`. */
function tarOf(
  entries: { path: string; type?: 'File' | 'SymbolicLink' | 'Link'; linkpath?: string }[],
): Buffer {
  const content = Buffer.from('hostile');
  const blocks = entries.flatMap(({ path, type = 'File', linkpath }) => {
    const isFile = type === 'File';
    const header = new Header({ path, type, linkpath, size: isFile ? content.length : 0, mode: 0o644 });
    const block = Buffer.alloc(512);
    header.encode(block);
    return isFile ? [block, Buffer.concat([content, Buffer.alloc(512 - content.length)])] : [block];
  });
  return gzipSync(Buffer.concat([...blocks, Buffer.alloc(1024)]));
}
