import { Inject, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { Repository } from 'typeorm';
import { asPlatform } from '../platform/database/isolation.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { ApiKey } from './api-key.entity.js';
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
  private prefixes = new Set<number>();
  private byId = new Map<string, number>();
  private isLoaded = false;
  private loading: Promise<void> | null = null;
  /** The reads run one after the other, so that an older read does not overwrite a newer one. */
  private reads: Promise<void> = Promise.resolve();

  constructor(
    @InjectRepository(ApiKey) private readonly keys: Repository<ApiKey>,
    @Inject(LOGGER) private readonly logger: Logger,
    authentication: AuthenticationService,
  ) {
    authentication.onChange((keyId) => {
      this.read(keyId).catch((error: unknown) => {
        this.isLoaded = false;
        this.logger.warn(
          { err: error },
          'the set of known keys could not be read; the next guess reads it again',
        );
      });
    });
  }

  /** Whether a key with this hash exists. Only the first call waits for the database. */
  async has(hash: Buffer): Promise<boolean> {
    if (!this.isLoaded) await (this.loading ??= this.read(null).finally(() => (this.loading = null)));
    return this.prefixes.has(prefixOf(hash));
  }

  /** Reads one key again; null: all keys. */
  private read(keyId: string | null): Promise<void> {
    const read = this.reads.then(() =>
      asPlatform(() => (keyId === null ? this.readAll() : this.readOne(keyId))),
    );
    this.reads = read.catch(() => undefined);
    return read;
  }

  private async readAll(): Promise<void> {
    const rows: Row[] = await this.keys.query(
      `select id, substr(key_hash, 1, ${prefixBytes}) as prefix from api_keys`,
    );
    this.byId = new Map(rows.map(({ id, prefix }) => [id, prefixOf(prefix)]));
    this.prefixes = new Set(this.byId.values());
    this.isLoaded = true;
  }

  private async readOne(id: string): Promise<void> {
    if (!this.isLoaded) return;
    const [row]: Row[] = await this.keys.query(
      `select id, substr(key_hash, 1, ${prefixBytes}) as prefix from api_keys where id = $1`,
      [id],
    );
    const known = this.byId.get(id);
    if (row) {
      this.byId.set(id, prefixOf(row.prefix));
      this.prefixes.add(prefixOf(row.prefix));
    } else if (known !== undefined) {
      this.byId.delete(id);
      this.prefixes.delete(known);
    }
  }
}

function prefixOf(hash: Buffer): number {
  return hash.readUIntBE(0, prefixBytes);
}
