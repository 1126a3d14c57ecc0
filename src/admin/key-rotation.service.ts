import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { decrypt, DecryptionFailed, encrypt, encryptionKeys, writtenWith } from '../platform/encryption.js';

/** A bytea column with encrypted values. */
interface EncryptedColumn {
  table: string;
  /** The primary key: one column. */
  id: string;
  column: string;
  /** The label of {@link encryptionKeys} for this column. */
  purpose: string;
  /** SQL for the context that a value is bound to. It must be the context of the code that writes the value. */
  context: string;
}

/** Every column that is encrypted with `APP_KEY`. When you add an encrypted column, add its line here. */
const encryptedColumns: EncryptedColumn[] = [
  {
    table: 'session_snapshots',
    id: 'account_id',
    column: 'data',
    purpose: 'session-snapshots',
    context: `account_id || '@' || epoch`,
  },
  { table: 'webhooks', id: 'id', column: 'secret', purpose: 'webhook-secrets', context: 'id::text' },
  { table: 'webhooks', id: 'id', column: 'previous_secret', purpose: 'webhook-secrets', context: 'id::text' },
  { table: 'webhooks', id: 'id', column: 'headers', purpose: 'webhook-secrets', context: 'id::text' },
  { table: 'webhooks', id: 'id', column: 'login', purpose: 'webhook-secrets', context: 'id::text' },
  {
    table: 'accounts',
    id: 'id',
    column: 'proxy_credentials',
    purpose: 'account-proxies',
    context: 'id::text',
  },
];

/** The outcome for one column. */
export interface KeyRotation {
  table: string;
  column: string;
  /** The number of re-encrypted values. */
  rotated: number;
  /** The ids of values that no known key decrypts, at most the first hundred. */
  failed: string[];
  /** The number of values that are not encrypted with the current key. */
  left: number;
}

/** PostgreSQL sends bytes as text of twice their size. Reading in chunks keeps this text of a whole value out of memory. */
const chunkBytes = 8 * 2 ** 20;
const batchSize = 500;
const maxFailedIds = 100;

/** Re-encrypts, with the current `APP_KEY`, the values that are encrypted with an earlier key. */
@Injectable()
export class KeyRotationService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  /**
   * Re-encrypts all values, one at a time. It can be interrupted and run again, because the first bytes of a value tell its
   * key. It leaves a value alone that another program changes at the same time.
   * @param onProgress called with the number of finished values of a table, and their total
   */
  async rotate(
    onProgress: (table: string, done: number, total: number) => void = () => undefined,
  ): Promise<KeyRotation[]> {
    const outcomes: KeyRotation[] = [];
    for (const column of encryptedColumns) outcomes.push(await this.rotateColumn(column, onProgress));
    return outcomes;
  }

  private async rotateColumn(
    column: EncryptedColumn,
    onProgress: (table: string, done: number, total: number) => void,
  ): Promise<KeyRotation> {
    const keys = encryptionKeys(this.config, column.purpose);
    const all = await this.countLeft(column, keys[0]!);
    const outcome: KeyRotation = {
      table: column.table,
      column: column.column,
      rotated: 0,
      failed: [],
      left: all,
    };
    let done = 0;
    for (let after: string | null = null; ;) {
      const ids: { id: string }[] = await this.database.query(
        `select ${column.id}::text as id from ${column.table}
         where ${isLeft(column)} and ($2::text is null or ${column.id}::text > $2)
         order by ${column.id}::text limit ${batchSize}`,
        [writtenWith(keys[0]!), after],
      );
      for (const { id } of ids) {
        try {
          if (await this.rotateValue(column, keys, id)) outcome.rotated += 1;
        } catch (error) {
          if (!(error instanceof DecryptionFailed)) throw error;
          if (outcome.failed.length < maxFailedIds) outcome.failed.push(id);
        }
        done += 1;
        onProgress(column.table, done, Math.max(done, all));
      }
      if (ids.length < batchSize) break;
      after = ids.at(-1)!.id;
    }
    outcome.left = await this.countLeft(column, keys[0]!);
    return outcome;
  }

  /** @returns whether the value was re-encrypted. It was not if another program changed it at the same time. */
  private async rotateValue(column: EncryptedColumn, keys: Buffer[], id: string): Promise<boolean> {
    const [row]: { context: string; bytes: number; beginning: Buffer }[] = await this.database.query(
      `select ${column.context} as context, length(${column.column}) as bytes,
         ${beginningOf(column)} as beginning from ${column.table} where ${column.id}::text = $1`,
      [id],
    );
    if (!row) return false;
    const parts: Buffer[] = [];
    for (let from = 1; from <= row.bytes; from += chunkBytes) {
      const [chunk]: { part: Buffer }[] = await this.database.query(
        `select substring(${column.column} from $2::int for ${chunkBytes}) as part from ${column.table}
         where ${column.id}::text = $1 and ${beginningOf(column)} = $3`,
        [id, from, row.beginning],
      );
      if (!chunk) return false;
      parts.push(chunk.part);
    }
    const plain = decrypt(keys, Buffer.concat(parts), row.context);
    const [, affected]: [unknown, number] = await this.database.query(
      `update ${column.table} set ${column.column} = $2
       where ${column.id}::text = $1 and ${beginningOf(column)} = $3 and ${column.context} = $4`,
      [id, encrypt(keys[0]!, plain, row.context), row.beginning, row.context],
    );
    return affected === 1;
  }

  private async countLeft(column: EncryptedColumn, key: Buffer): Promise<number> {
    const [{ count }]: [{ count: number }] = await this.database.query(
      `select count(*)::int as count from ${column.table} where ${isLeft(column)}`,
      [writtenWith(key)],
    );
    return count;
  }
}

/** SQL: a value is not encrypted with the key whose mark is $1. */
function isLeft({ column }: EncryptedColumn): string {
  return `${column} is not null and substring(${column} from 1 for length($1::bytea)) <> $1::bytea`;
}

/** SQL for the beginning of a value. It holds the random IV, so that a changed value has another beginning. */
function beginningOf({ column }: EncryptedColumn): string {
  return `substring(${column} from 1 for 33)`;
}
