import { Inject, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { Repository } from 'typeorm';
import { asPlatform } from '../platform/context.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { ApiKey } from './api-key.entity.js';
import { ApiKeysService } from './api-keys.service.js';
import { AuthenticationService } from './authentication.service.js';

/** 48 bits of a hash are an exact number. A guess has them in common with one of a million keys once in 280 million guesses. */
const prefixBytes = 6;

interface Row {
  id: string;
  prefix: Buffer;
}

/**
 * Which keys exist, by the beginnings of their hashes, in memory. So a guess can be told from a key without a query. A hash
 * tells nothing about its key, so neither does the duration of this check. The set is a hint: another process may have created a
 * key a moment ago, and only a look-up decides whether a key is right.
 */
@Injectable()
export class KnownKeys {
  private readonly prefixes = new Set<number>();
  private readonly byId = new Map<string, number>();
  /** False before the first read, and after a failed one. */
  private isReady = false;
  /** Every key may have changed. */
  private allChanged = true;
  /** Keys that have changed since they were read. A set, so that many changes of one key are one read. */
  private readonly changed = new Set<string>();
  private reading: Promise<void> | null = null;

  constructor(
    @InjectRepository(ApiKey) private readonly keys: Repository<ApiKey>,
    @Inject(LOGGER) private readonly logger: Logger,
    authentication: AuthenticationService,
    made: ApiKeysService,
  ) {
    // The notification of PostgreSQL comes a moment after the answer.
    made.onMade(({ id, keyHash }) => this.replace([id], [{ id, prefix: keyHash }]));
    authentication.onChange((keyId) => {
      if (keyId === null) this.allChanged = true;
      else this.changed.add(keyId);
      this.read().catch((error: unknown) =>
        this.logger.warn({ err: error }, 'the known keys could not be read; the next guess reads them'),
      );
    });
  }

  /** Whether a key with this hash exists. It waits for the database only if the keys have never been read, or a read failed. */
  async has(hash: Buffer): Promise<boolean> {
    if (!this.isReady) await this.read();
    return this.prefixes.has(prefixOf(hash));
  }

  /** Reads what has changed, and what changes meanwhile. There is one read at a time. */
  private read(): Promise<void> {
    return (this.reading ??= asPlatform(() => this.readChanges()));
  }

  private async readChanges(): Promise<void> {
    try {
      while (this.allChanged || this.changed.size > 0) {
        const ids = this.allChanged ? null : [...this.changed];
        this.changed.clear();
        this.allChanged = false;
        const rows: Row[] = await this.keys.query(
          `select id, substr(key_hash, 1, ${prefixBytes}) as prefix from api_keys
           where $1::uuid[] is null or id = any($1)`,
          [ids],
        );
        this.replace(ids ?? [...this.byId.keys()], rows);
      }
      this.isReady = true;
    } catch (error) {
      this.isReady = false;
      this.allChanged = true;
      throw error;
    } finally {
      this.reading = null;
    }
  }

  private replace(ids: string[], rows: Row[]): void {
    for (const id of ids) {
      const prefix = this.byId.get(id);
      if (prefix !== undefined) this.prefixes.delete(prefix);
      this.byId.delete(id);
    }
    for (const { id, prefix } of rows) {
      this.byId.set(id, prefixOf(prefix));
      this.prefixes.add(prefixOf(prefix));
    }
  }
}

function prefixOf(hash: Buffer): number {
  return hash.readUIntBE(0, prefixBytes);
}
