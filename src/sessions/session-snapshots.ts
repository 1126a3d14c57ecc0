import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import pLimit from 'p-limit';
import { DataSource } from 'typeorm';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { decrypt, DecryptionFailed, encrypt, encryptionKeys } from '../platform/encryption.js';
import { Problem } from '../platform/errors/problem.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { claimProfile, profileDir } from '../whatsapp/browser/profile.js';
import {
  markProfile,
  packProfile,
  ProfileArchiveDamaged,
  profileDigest,
  profileEpoch,
  recoverProfile,
  removeProfileCopies,
  unpackProfile,
} from '../whatsapp/browser/archive.js';
import type { Account } from '../accounts/account.entity.js';

/** The fields of an account that its snapshots need. */
export type SnapshotAccount = Pick<Account, 'id' | 'epoch'>;

/** The origin of the profile that an account starts with: this server, a snapshot, or a new profile that must be linked. */
export type ProfileOrigin = 'local' | 'restored' | 'new';

/** A snapshot is newer than the profile of this server, and cannot be restored. */
export class SnapshotUnusable extends Problem {
  constructor(accountId: string, cause: Error) {
    super(
      500,
      'account.snapshot_unusable',
      `The snapshot of the session of account ${accountId} cannot be restored. ${cause.message} If the snapshot is damaged, delete its row in session_snapshots. The account then starts with the older profile of this server, or shows a QR code.`,
    );
    this.cause = cause;
  }
}

/** PostgreSQL returns bytes as text of twice their size. Reading in chunks keeps that text small. */
const readChunkBytes = 8 * 2 ** 20;
/** Low, because each snapshot is in memory several times while it is encrypted and sent. */
const saveConcurrency = 2;

/**
 * Copies of browser profiles in PostgreSQL. With them an account moves to another server without being linked again. The epoch
 * of an assignment grows at every change of owner. So a local profile that was driven under the epoch of a snapshot, or under a
 * later epoch, is at least as new as that snapshot.
 */
@Injectable()
export class SessionSnapshots {
  /** The first key encrypts. All keys decrypt. */
  private readonly keys: Buffer[];
  private readonly saves = pLimit(saveConcurrency);

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    @InjectDataSource() private readonly database: DataSource,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {
    this.keys = encryptionKeys(config, 'session-snapshots');
  }

  /** Whether sessions are copied to PostgreSQL. */
  get isEnabled(): boolean {
    return this.config.sessions.store === 'postgres';
  }

  /**
   * Makes sure that the local profile of an account is the newest, and marks it with the account's epoch. The caller holds the
   * account and has no browser open for it yet.
   * @throws SnapshotUnusable
   */
  async prepare(account: SnapshotAccount): Promise<ProfileOrigin> {
    const dir = this.dirOf(account.id);
    await recoverProfile(dir);
    const hasLocalProfile = (await profileDigest(dir)) !== null;
    if (this.isEnabled && (await this.restore(account, dir, hasLocalProfile))) return 'restored';
    await markProfile(dir, account.epoch);
    return hasLocalProfile ? 'local' : 'new';
  }

  /**
   * Takes a snapshot if the profile has changed since the last snapshot, and this instance still holds the account.
   * @param isRunning whether a browser may be writing to the profile
   * @returns whether a new snapshot was taken
   * @throws ProfileBusy, ProfileTooLarge
   */
  async save(account: SnapshotAccount, isRunning: boolean): Promise<boolean> {
    if (!this.isEnabled) return false;
    return this.saves(async () => {
      const startedAt = performance.now();
      const dir = this.dirOf(account.id);
      const digest = await profileDigest(dir);
      if (digest === null || !(await this.isOutdated(account, digest))) return false;
      const packed = await packProfile(dir, isRunning, this.config.sessions.snapshotMaxBytes);
      const data = encrypt(this.keys[0]!, packed.archive, contextOf(account));
      return this.write(account, packed.digest, data, performance.now() - startedAt);
    });
  }

  /**
   * Saves after a short delay, and then at an interval, one save at a time. A failed save is logged, and tried again at the next
   * interval.
   */
  schedule(account: SnapshotAccount): SnapshotSchedule {
    const { snapshotDelayMs, snapshotIntervalMs } = this.config.sessions;
    const save = async () => {
      try {
        await this.save(account, true);
      } catch (error) {
        this.logger.warn(
          { err: error, accountId: account.id },
          'no snapshot of a session was taken; trying again at the next interval',
        );
      }
    };
    return new SnapshotSchedule(this.isEnabled ? save : null, snapshotDelayMs, snapshotIntervalMs);
  }

  /** Deletes the snapshot of an account. Only for a logout that WhatsApp confirmed. */
  async drop({ id, epoch }: SnapshotAccount): Promise<void> {
    // A snapshot under a later epoch belongs to a session that was linked again.
    await this.database.query('delete from session_snapshots where account_id = $1 and epoch <= $2', [
      id,
      epoch,
    ]);
    await removeProfileCopies(this.dirOf(id));
  }

  private dirOf(accountId: string): string {
    return profileDir(this.config.sessions.dir, accountId);
  }

  /** Replaces the local profile with the snapshot, if the snapshot is newer. @returns whether it did */
  private async restore(account: SnapshotAccount, dir: string, hasLocalProfile: boolean): Promise<boolean> {
    // A profile without a mark is older than the first snapshot.
    const localEpoch = hasLocalProfile ? ((await profileEpoch(dir)) ?? -1) : -1;
    const [newer] = await this.database.query<StoredSnapshot[]>(
      `select epoch, digest, length(data) as bytes from session_snapshots where account_id = $1 and epoch > $2`,
      [account.id, localEpoch],
    );
    if (!newer) return false;
    try {
      const encrypted = await this.read(account.id, newer);
      const archive = decrypt(this.keys, encrypted, contextOf({ id: account.id, epoch: newer.epoch }));
      // A browser that a dead process left running must not write into the new profile.
      await claimProfile(dir);
      // Before the profile is there: a crash in between must not hide that the session is an older one.
      await this.database.query(
        'update session_snapshots set restored_at = now() where account_id = $1 and epoch = $2',
        [account.id, newer.epoch],
      );
      await unpackProfile(archive, dir, account.epoch);
      return true;
    } catch (error) {
      if (!(error instanceof DecryptionFailed || error instanceof ProfileArchiveDamaged)) throw error;
      // Do not fall back to an older local profile: its next snapshot would replace the newer one.
      throw new SnapshotUnusable(account.id, error);
    }
  }

  private async read(accountId: string, { epoch, digest, bytes }: StoredSnapshot): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let from = 1; from <= bytes; from += readChunkBytes) {
      const [row] = await this.database.query<{ part: Buffer }[]>(
        `select substring(data from $4::int for $5::int) as part from session_snapshots
         where account_id = $1 and epoch = $2 and digest = $3`,
        [accountId, epoch, digest, from, readChunkBytes],
      );
      if (!row) throw new Error(`The snapshot of account ${accountId} was replaced while it was read.`);
      parts.push(row.part);
    }
    return Buffer.concat(parts);
  }

  private async isOutdated({ id, epoch }: SnapshotAccount, digest: string): Promise<boolean> {
    const [current] = await this.database.query<object[]>(
      `select 1 from session_snapshots where account_id = $1 and (epoch > $2 or (epoch = $2 and digest = $3))`,
      [id, epoch, digest],
    );
    return current === undefined;
  }

  /**
   * Writes only for the holder of the account, and never over a later epoch. The holder may have lost the assignment already.
   * The next owner then starts from this snapshot: it waits until the holder releases the account, and for the lock on the row.
   * @param ageMs how long ago the first byte of the profile was read
   */
  private async write(
    { id, epoch }: SnapshotAccount,
    digest: string,
    data: Buffer,
    ageMs: number,
  ): Promise<boolean> {
    const written = await this.database.query<object[]>(
      `insert into session_snapshots (account_id, workspace_id, epoch, digest, size_bytes, data, taken_at)
       select id, workspace_id, $2::int, $4, length($5::bytea), $5, now() - $6 * interval '1 millisecond' from accounts
       where id = $1 and epoch >= $2 and held_by = $3 for share
       on conflict (account_id) do update set epoch = excluded.epoch, digest = excluded.digest,
         size_bytes = excluded.size_bytes, data = excluded.data, taken_at = excluded.taken_at, restored_at = null
       where session_snapshots.epoch <= excluded.epoch
       returning account_id`,
      [id, epoch, this.config.instance.id, digest, data, ageMs],
    );
    return written.length > 0;
  }
}

interface StoredSnapshot {
  epoch: number;
  digest: string;
  bytes: number;
}

/** Binds a snapshot to its row: under another account or another epoch, it cannot be decrypted. */
function contextOf({ id, epoch }: SnapshotAccount): string {
  return `${id}@${epoch}`;
}

/** The saves of one account while its session is ready. */
export class SnapshotSchedule {
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> = Promise.resolve();
  private isStopped = false;

  /** @param save does not throw; null if there is nothing to do */
  constructor(
    private readonly save: (() => Promise<void>) | null,
    delayMs: number,
    private readonly intervalMs: number,
  ) {
    this.saveIn(delayMs);
  }

  /** Ends the saves, and waits for a running save. */
  async stop(): Promise<void> {
    this.isStopped = true;
    clearTimeout(this.timer);
    await this.running;
  }

  private saveIn(ms: number): void {
    const { save } = this;
    if (save === null || this.isStopped) return;
    this.timer = setTimeout(() => {
      this.running = save().then(() => this.saveIn(this.intervalMs));
    }, ms);
    this.timer.unref();
  }
}
