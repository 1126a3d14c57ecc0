import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { lstat, mkdir, mkdtemp, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { createGunzip, createGzip } from 'node:zlib';
import { create, extract } from 'tar';
import { backoffAfter } from '../../platform/backoff.js';

/** The browser wrote to its profile during every attempt to copy it. A later attempt may succeed. */
export class ProfileBusy extends Error {
  override name = 'ProfileBusy';
}

/** The archive would be larger than the limit. */
export class ProfileTooLarge extends Error {
  override name = 'ProfileTooLarge';
}

/** The archive is truncated, is not an archive, or holds paths outside the profile. */
export class ProfileArchiveDamaged extends Error {
  override name = 'ProfileArchiveDamaged';
}

/** A file at one moment. If any of these values differs, the content may differ. */
interface SeenFile {
  size: bigint;
  mtimeNs: bigint;
  ino: bigint;
}

/** The files of a profile without caches, by their relative paths, sorted. */
type Listing = ReadonlyMap<string, SeenFile>;

/**
 * Files that the browser makes again if they are missing: names in the user data directory and in its profile folders.
 * `Service Worker` holds downloaded scripts and their database. With only one of them the worker cannot start; without both
 * the page registers the worker again. RemoteAuth of whatsapp-web.js excludes this folder too.
 */
const cacheNames = new RegExp(
  `^(${[
    'Cache',
    'Code Cache',
    'GPUCache',
    'GPUPersistentCache',
    'DawnCache',
    'DawnGraphiteCache',
    'DawnWebGPUCache',
    'GraphiteDawnCache',
    'ShaderCache',
    'GrShaderCache',
    'Service Worker',
    'Shared Dictionary',
    'blob_storage',
    'Crashpad',
    'component_crx_cache',
    'extensions_crx_cache',
    'BrowserMetrics.*',
    'optimization_guide.*',
    'Safe Browsing.*',
  ].join('|')})$`,
);
const profileFolder = /^(Default|Profile \d+)$/;

/** Files that belong to the running browser or to this machine. */
const localNames = /^(Singleton.*|DevToolsActivePort|flotilla\.json.*|.*\.log)$/;

const markerName = 'flotilla.json';

/** Suffixes of directories beside a profile: unpacked, copied or replaced profiles. A crash may leave them behind. */
const unpackingSuffix = '.unpacking-';
const packingSuffix = '.packing-';
const replacedSuffix = '.replaced';

const copyPasses = 5;
/** The pause before each pass after the first. */
const pausesMs = [100, 200, 400, 800];
/** The kernel's clock for files ticks every 10 ms at worst. Two writes within one tick have the same time. */
const timestampTickMs = 20;
/**
 * LevelDB already compresses its data. The fastest level reduces a profile with 34 MB of IndexedDB to 25.9 MB. The default
 * level reduces it to 25.4 MB, but takes 1.5 times as long.
 */
const compressionLevel = 1;

/**
 * Packs a profile into a gzipped tar, without caches. A browser may run with the profile: the archive holds the profile of one
 * moment, or its databases as they would be after a crash at that moment.
 * @param isRunning whether a browser may be writing to the profile
 * @param maxBytes the limit for the archive
 * @returns the archive, and the digest of its files, comparable to {@link profileDigest}
 * @throws ProfileBusy, ProfileTooLarge
 */
export async function packProfile(
  dir: string,
  isRunning: boolean,
  maxBytes: number,
): Promise<{ archive: Buffer; digest: string }> {
  // Copy first: the browser must not write meanwhile, and copying takes a fraction of the time of compressing.
  const copy = await mkdtemp(dir + packingSuffix);
  try {
    const listing = await copyProfile(dir, copy, isRunning);
    return { archive: await compress(copy, listing, maxBytes), digest: digestOf(listing) };
  } finally {
    await removeTree(copy);
  }
}

/**
 * Replaces `dir` with the profile of an archive and marks it with `epoch`, atomically: until the new profile is complete and on
 * the disk, an existing profile stays untouched. No browser may run with the profile.
 * @throws ProfileArchiveDamaged
 */
export async function unpackProfile(archive: Buffer, dir: string, epoch: number): Promise<void> {
  await mkdir(dirname(dir), { recursive: true, mode: 0o700 });
  const unpacked = await mkdtemp(dir + unpackingSuffix);
  try {
    await extractTo(unpacked, archive);
    await markProfile(unpacked, epoch);
    // After a power cut, a profile in its place must be complete, because its mark says that it is the newest.
    await syncTree(unpacked);
    await removeTree(dir + replacedSuffix);
    await rename(dir, dir + replacedSuffix).catch(ignoreMissing);
    await rename(unpacked, dir);
    await syncPath(dirname(dir));
    await removeTree(dir + replacedSuffix);
  } finally {
    await removeTree(unpacked);
  }
}

/**
 * Cleans up beside a profile after a crash: restores a profile whose replacement did not finish, and deletes copies. No browser
 * may run with the profile.
 */
export async function recoverProfile(dir: string): Promise<void> {
  const siblings = await readdir(dirname(dir)).catch(ignoreMissing);
  const name = basename(dir);
  if (siblings?.includes(name + replacedSuffix) && !siblings.includes(name))
    await rename(dir + replacedSuffix, dir);
  await removeProfileCopies(dir);
}

/** Deletes the copies of a profile beside it. They hold credentials, and a crash may have left them behind. */
export async function removeProfileCopies(dir: string): Promise<void> {
  const siblings = (await readdir(dirname(dir)).catch(ignoreMissing)) ?? [];
  const suffixes = [unpackingSuffix, packingSuffix, replacedSuffix];
  const copies = siblings.filter((name) =>
    suffixes.some((suffix) => name.startsWith(basename(dir) + suffix)),
  );
  await Promise.all(copies.map((name) => removeTree(join(dirname(dir), name))));
}

/**
 * A digest of the names, sizes and times of a profile's files, without caches. It changes when the profile changes.
 * @returns null if there is no profile: no directory, or only caches in it
 */
export async function profileDigest(dir: string): Promise<string | null> {
  const listing = await listFiles(dir);
  return listing.size > 0 ? digestOf(listing) : null;
}

/** Writes the epoch of its assignment to the profile, atomically: this server drives the profile under this epoch. */
export async function markProfile(dir: string, epoch: number): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const path = join(dir, markerName);
  const file = await open(`${path}.new`, 'w', 0o600);
  try {
    await file.writeFile(JSON.stringify({ epoch }));
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(`${path}.new`, path);
  await syncPath(dir);
}

/** The epoch under which this server last drove the profile; null if the profile has no readable mark. */
export async function profileEpoch(dir: string): Promise<number | null> {
  const text = await readFile(join(dir, markerName), 'utf8').catch(ignoreMissing);
  try {
    const { epoch } = JSON.parse(text ?? '{}') as { epoch?: unknown };
    return typeof epoch === 'number' && Number.isSafeInteger(epoch) ? epoch : null;
  } catch {
    return null;
  }
}

/** Deletes the caches of a profile; credentials stay. No browser may run with the profile. */
export async function pruneCaches(dir: string): Promise<void> {
  const names = (await readdir(dir).catch(ignoreMissing)) ?? [];
  for (const name of names) {
    if (cacheNames.test(name)) await removeTree(join(dir, name));
    else if (profileFolder.test(name)) await pruneCaches(join(dir, name));
  }
}

/** Whether archives exclude a path. Only its first names decide, because a site may store files under any name. */
function isExcluded(path: string): boolean {
  const [first = '', second = ''] = path.split('/');
  if (profileFolder.test(first)) return cacheNames.test(second);
  return cacheNames.test(first) || (localNames.test(first) && second === '');
}

async function listFiles(dir: string): Promise<Listing> {
  const files: [string, SeenFile][] = [];
  const visit = async (folder: string): Promise<void> => {
    // A directory that disappears during the listing counts as missing.
    const entries = (await readdir(join(dir, folder), { withFileTypes: true }).catch(ignoreMissing)) ?? [];
    for (const entry of entries) {
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (isExcluded(path)) continue;
      if (entry.isDirectory()) await visit(path);
      // Links, sockets and pipes hold no data.
      if (!entry.isFile()) continue;
      const seen = await lstat(join(dir, path), { bigint: true }).catch(ignoreMissing);
      if (seen) files.push([path, { size: seen.size, mtimeNs: seen.mtimeNs, ino: seen.ino }]);
    }
  };
  await visit('');
  return new Map(files.sort(([one], [other]) => (one < other ? -1 : 1)));
}

function digestOf(listing: Listing): string {
  const hash = createHash('sha256');
  for (const [path, { size, mtimeNs }] of listing) hash.update(`${path}\0${size}\0${mtimeNs}\n`);
  return hash.digest('hex');
}

/**
 * Copies a profile so that all copied files belong to one moment. Each pass copies the files that changed since the previous
 * pass, so the passes get shorter, until a pass sees no change from its beginning to its end.
 * @returns the listing of the copied files at that moment
 */
async function copyProfile(from: string, to: string, isRunning: boolean): Promise<Listing> {
  let copied: Listing = new Map();
  for (let pass = 0; pass < copyPasses; pass += 1) {
    if (pass > 0) await delay(backoffAfter(pass, pausesMs));
    const startedAt = Date.now();
    const before = await listFiles(from);
    for (const [path, seen] of before) {
      if (!isSame(seen, copied.get(path))) await copyOne(path, seen, from, to);
    }
    const after = await listFiles(from);
    const kept = [...before].filter(([path, seen]) => isSame(seen, after.get(path)));
    const trusted = isRunning ? kept.filter(([, seen]) => !isFresh(seen, startedAt)) : kept;
    copied = new Map(trusted);
    const isComplete = [...before].every(
      ([path, seen]) => copied.has(path) || (isGrowingLog(path, before) && hasGrown(seen, after.get(path))),
    );
    if (isComplete && before.size === after.size) return before;
  }
  throw new ProfileBusy(`The browser wrote to its profile during each of ${copyPasses} attempts to copy it.`);
}

/**
 * Copies a file up to the size seen first, so that copying a growing file ends. Does not use Node's own copyFile: if the
 * browser truncates the file meanwhile, copyFile never ends and blocks a thread of the pool for ever.
 */
async function copyOne(path: string, { size }: SeenFile, from: string, to: string): Promise<void> {
  await mkdir(dirname(join(to, path)), { recursive: true });
  const source = createReadStream(join(from, path), { end: Math.max(Number(size) - 1, 0) });
  // If the file is gone, the next listing does not have it either.
  await pipeline(source, createWriteStream(join(to, path), { mode: 0o600 })).catch(ignoreMissing);
}

function isSame(seen: SeenFile, other: SeenFile | undefined): boolean {
  return seen.size === other?.size && seen.mtimeNs === other.mtimeNs && seen.ino === other.ino;
}

/** Whether a later write to a copied file may have left the same modification time. */
function isFresh({ mtimeNs }: SeenFile, startedAt: number): boolean {
  const mtime = Number(mtimeNs / 1_000_000n);
  return mtime >= startedAt - timestampTickMs && mtime <= Date.now() + timestampTickMs;
}

/**
 * Whether a file is the log of a LevelDB, which only grows by appended records. LevelDB drops a truncated last record, as after
 * a crash, so every prefix of the log is a state that the database had.
 */
function isGrowingLog(path: string, listing: Listing): boolean {
  return /\/\d+\.log$/.test(path) && listing.has(`${dirname(path)}/CURRENT`);
}

function hasGrown(before: SeenFile, after: SeenFile | undefined): boolean {
  return after !== undefined && after.ino === before.ino && after.size >= before.size;
}

async function compress(dir: string, listing: Listing, maxBytes: number): Promise<Buffer> {
  const paths = [...listing.keys()].map((path) => `./${path}`);
  const tarball = create({ cwd: dir, portable: true, noDirRecurse: true, strict: true }, paths);
  // Not the library's own gzip, which compresses on the main thread.
  const gzip = createGzip({ level: compressionLevel });
  const chunks: Buffer[] = [];
  let bytes = 0;
  const packing = pipeline(Readable.from(tarball), gzip, async (compressed: AsyncIterable<Buffer>) => {
    for await (const chunk of compressed) {
      bytes += chunk.length;
      if (bytes > maxBytes) break;
      chunks.push(chunk);
    }
  });
  // A pipeline whose consumer stops early rejects with one of several errors, or does not reject.
  await packing.catch((error: unknown) => {
    if (bytes <= maxBytes) throw error;
  });
  if (bytes > maxBytes) throw new ProfileTooLarge(`The packed profile is larger than ${maxBytes} bytes.`);
  return Buffer.concat(chunks);
}

async function extractTo(dir: string, archive: Buffer): Promise<void> {
  const outside: string[] = [];
  const unpacking = extract({
    cwd: dir,
    strict: true,
    noMtime: true,
    filter: (path, entry) => {
      if (path.startsWith('/') || path.split('/').includes('..')) outside.push(path);
      const isData = 'type' in entry && (entry.type === 'File' || entry.type === 'Directory');
      return isData && outside.length === 0;
    },
  });
  try {
    await new Promise<void>((resolve, reject) => {
      unpacking.on('close', resolve).on('error', reject);
      createGunzip().on('error', reject).end(archive).pipe(unpacking);
    });
  } catch (error) {
    const code = String((error as NodeJS.ErrnoException).code);
    if (!/^(Z|TAR)_/.test(code)) throw error;
    throw new ProfileArchiveDamaged('The archive of the profile is damaged.', { cause: error });
  }
  if (outside.length > 0)
    throw new ProfileArchiveDamaged(`The archive holds a path outside the profile: ${outside[0]}`);
}

async function syncTree(dir: string): Promise<void> {
  const entries = await readdir(dir, { recursive: true });
  for (const entry of entries) await syncPath(join(dir, entry));
  await syncPath(dir);
}

async function syncPath(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

async function removeTree(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}
