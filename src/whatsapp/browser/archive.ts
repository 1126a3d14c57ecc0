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

/** The browser wrote to its profile through every attempt to copy it; the next attempt may find it quiet. */
export class ProfileBusy extends Error {
  override name = 'ProfileBusy';
}

/** The archive would be larger than it may be. */
export class ProfileTooLarge extends Error {
  override name = 'ProfileTooLarge';
}

/** An archive that is cut off, is none, or holds paths that lead out of the profile. */
export class ProfileArchiveDamaged extends Error {
  override name = 'ProfileArchiveDamaged';
}

/** A file as it was seen: another value of any of these is another content. */
interface SeenFile {
  size: bigint;
  mtimeNs: bigint;
  ino: bigint;
}

/** The files of a profile by their relative paths, without caches, sorted. */
type Listing = ReadonlyMap<string, SeenFile>;

/**
 * What the browser makes again when it is gone, by name in the user data directory and in the profile folders of it.
 * `Service Worker` holds downloaded scripts and a database of them: one without the other is a worker that cannot start,
 * without both the page registers it anew. whatsapp-web.js's own RemoteAuth leaves it out too.
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

/** What belongs to the running browser and to this machine. */
const localNames = /^(Singleton.*|DevToolsActivePort|flotilla\.json.*|.*\.log)$/;

const markerName = 'flotilla.json';

/** Beside a profile: what is being unpacked or copied, and what a restored one replaces. A crash may leave them behind. */
const unpackingSuffix = '.unpacking-';
const packingSuffix = '.packing-';
const replacedSuffix = '.replaced';

const copyPasses = 5;
/** Before the second pass; doubled before each further one. */
const pausesMs = [100, 200, 400, 800];
/** The kernel's clock for files ticks every 10 ms at worst: two writes within one tick leave the same time. */
const timestampTickMs = 20;
/**
 * LevelDB has compressed already: of a profile with 34 MB of IndexedDB the fastest level leaves 25.9 MB, the default one
 * 25.4 MB after half as much time again.
 */
const compressionLevel = 1;

/**
 * Packs a profile into a gzipped tar, without caches. A browser may run with it: what is packed is the profile as it was
 * at one moment, or its databases as they would be after a crash at that moment.
 * @param isRunning whether a browser may be writing to it
 * @param maxBytes of the archive
 * @returns the archive, and the digest of what is in it, comparable to {@link profileDigest}
 * @throws ProfileBusy, ProfileTooLarge
 */
export async function packProfile(
  dir: string,
  isRunning: boolean,
  maxBytes: number,
): Promise<{ archive: Buffer; digest: string }> {
  // Copied first: copying takes a fraction of the time of compressing, in which the browser must hold still.
  const copy = await mkdtemp(dir + packingSuffix);
  try {
    const listing = await copyProfile(dir, copy, isRunning);
    return { archive: await compress(copy, listing, maxBytes), digest: digestOf(listing) };
  } finally {
    await removeTree(copy);
  }
}

/**
 * Puts the profile of an archive in the place of `dir`, with the mark of `epoch`, all at once: until it is complete and on
 * the disk, a profile that is there stays untouched. No browser may run with it.
 * @throws ProfileArchiveDamaged
 */
export async function unpackProfile(archive: Buffer, dir: string, epoch: number): Promise<void> {
  await mkdir(dirname(dir), { recursive: true, mode: 0o700 });
  const unpacked = await mkdtemp(dir + unpackingSuffix);
  try {
    await extractTo(unpacked, archive);
    await markProfile(unpacked, epoch);
    // A profile that is in its place after a power cut must have its content too: its mark says that it is the newest.
    await syncTree(unpacked);
    await removeTree(dir + replacedSuffix);
    await rename(dir, dir + replacedSuffix).catch(unlessMissing);
    await rename(unpacked, dir);
    await syncPath(dirname(dir));
    await removeTree(dir + replacedSuffix);
  } finally {
    await removeTree(unpacked);
  }
}

/**
 * Undoes what a crash left half done beside a profile: a profile that was being replaced is put back, copies are deleted.
 * No browser may run with it.
 */
export async function recoverProfile(dir: string): Promise<void> {
  const siblings = await readdir(dirname(dir)).catch(unlessMissing);
  const name = basename(dir);
  if (siblings?.includes(name + replacedSuffix) && !siblings.includes(name))
    await rename(dir + replacedSuffix, dir);
  await removeProfileCopies(dir);
}

/** Deletes what lies beside a profile: copies of its credentials, which a crash may have left. */
export async function removeProfileCopies(dir: string): Promise<void> {
  const siblings = (await readdir(dirname(dir)).catch(unlessMissing)) ?? [];
  const suffixes = [unpackingSuffix, packingSuffix, replacedSuffix];
  const copies = siblings.filter((name) =>
    suffixes.some((suffix) => name.startsWith(basename(dir) + suffix)),
  );
  await Promise.all(copies.map((name) => removeTree(join(dirname(dir), name))));
}

/**
 * Tells by names, sizes and times of its files whether a profile has changed, caches aside.
 * @returns null when there is no profile: no directory, or nothing but caches in it
 */
export async function profileDigest(dir: string): Promise<string | null> {
  const listing = await list(dir);
  return listing.size > 0 ? digestOf(listing) : null;
}

/** Writes down in the profile, at once or not at all, that it is driven here under this epoch of its assignment. */
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

/** Under which epoch a profile was last driven here; null when it has no mark that can be read. */
export async function profileEpoch(dir: string): Promise<number | null> {
  const text = await readFile(join(dir, markerName), 'utf8').catch(unlessMissing);
  try {
    const { epoch } = JSON.parse(text ?? '{}') as { epoch?: unknown };
    return typeof epoch === 'number' && Number.isSafeInteger(epoch) ? epoch : null;
  } catch {
    return null;
  }
}

/** Deletes the caches of a profile; credentials stay. No browser may run with it. */
export async function pruneCaches(dir: string): Promise<void> {
  const names = (await readdir(dir).catch(unlessMissing)) ?? [];
  for (const name of names) {
    if (cacheNames.test(name)) await removeTree(join(dir, name));
    else if (profileFolder.test(name)) await pruneCaches(join(dir, name));
  }
}

/** Whether a path is left out of archives. Only the first names decide: what a site stored may be called anything. */
function isLeftOut(path: string): boolean {
  const [first = '', second = ''] = path.split('/');
  if (profileFolder.test(first)) return cacheNames.test(second);
  return cacheNames.test(first) || (localNames.test(first) && second === '');
}

async function list(dir: string): Promise<Listing> {
  const files: [string, SeenFile][] = [];
  const visit = async (folder: string): Promise<void> => {
    // What vanishes while it is listed is not there.
    const entries = (await readdir(join(dir, folder), { withFileTypes: true }).catch(unlessMissing)) ?? [];
    for (const entry of entries) {
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (isLeftOut(path)) continue;
      if (entry.isDirectory()) await visit(path);
      // Links, sockets and pipes hold no data.
      if (!entry.isFile()) continue;
      const seen = await lstat(join(dir, path), { bigint: true }).catch(unlessMissing);
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
 * Copies a profile so that all copies are of one moment. Each pass copies what changed since the one before, so that the
 * passes get shorter, until one saw no change from its beginning to its end.
 * @returns what was copied, as it was at that moment
 */
async function copyProfile(from: string, to: string, isRunning: boolean): Promise<Listing> {
  let copied: Listing = new Map();
  for (let pass = 0; pass < copyPasses; pass += 1) {
    if (pass > 0) await delay(backoffAfter(pass, pausesMs));
    const startedAt = Date.now();
    const before = await list(from);
    for (const [path, seen] of before) {
      if (!isSame(seen, copied.get(path))) await copyOne(path, seen, from, to);
    }
    const after = await list(from);
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
 * Copies a file up to the size at which it was seen, so that one that grows has an end. Not with Node's own copyFile: when the
 * browser truncates the file meanwhile, that one never ends, on a thread that it never gives back.
 */
async function copyOne(path: string, { size }: SeenFile, from: string, to: string): Promise<void> {
  await mkdir(dirname(join(to, path)), { recursive: true });
  const source = createReadStream(join(from, path), { end: Math.max(Number(size) - 1, 0) });
  // A file that is gone is missing in the listing afterwards too.
  await pipeline(source, createWriteStream(join(to, path), { mode: 0o600 })).catch(unlessMissing);
}

function isSame(seen: SeenFile, other: SeenFile | undefined): boolean {
  return seen.size === other?.size && seen.mtimeNs === other.mtimeNs && seen.ino === other.ino;
}

/** Whether a file may have been written again after it was copied without a difference in its time. */
function isFresh({ mtimeNs }: SeenFile, startedAt: number): boolean {
  const mtime = Number(mtimeNs / 1_000_000n);
  return mtime >= startedAt - timestampTickMs && mtime <= Date.now() + timestampTickMs;
}

/**
 * Whether it is the log of a LevelDB, to which records are appended only: LevelDB drops one that is cut off at the end, as
 * after a crash, so that any beginning of it is a state that the database had.
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
  // Not with the library's own gzip: that one compresses on the main thread.
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
  // A pipeline that is left early rejects with one of several errors, or with none.
  await packing.catch((error: unknown) => {
    if (bytes <= maxBytes) throw error;
  });
  if (bytes > maxBytes) throw new ProfileTooLarge(`The profile is larger than ${maxBytes} bytes, packed.`);
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
    throw new ProfileArchiveDamaged(`The archive holds a path that leads out of the profile: ${outside[0]}`);
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

function unlessMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}
