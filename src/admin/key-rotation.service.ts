import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { decrypt, DecryptionFailed, encrypt, encryptionKeys, writtenWith } from '../platform/encryption.js';

/** A column (bytea) of which every value is encrypted. */
interface EncryptedColumn {
  table: string;
  /** The primary key: one column. */
  id: string;
  column: string;
  /** The label of {@link encryptionKeys} with which it is written. */
  purpose: string;
  /** SQL for what a value is bound to, as whoever writes it says. */
  context: string;
}

/** Everything that is encrypted with `APP_KEY`. Whoever adds a column adds its line here. */
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
];

/** What came of one column. */
export interface KeyRotation {
  table: string;
  column: string;
  /** Values that were encrypted anew. */
  rotated: number;
  /** Values that no known key opens: their ids, the first hundred. */
  failed: string[];
  /** Values that are not encrypted with the present key. */
  left: number;
}

/** PostgreSQL hands bytes over as text of twice their size: in pieces they never are in memory twice. */
const readBytes = 8 * 2 ** 20;
const idsAtOnce = 500;
const mostFailedIds = 100;

/** Encrypts anew, with the present `APP_KEY`, what an earlier one has encrypted. */
@Injectable()
export class KeyRotationService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  /**
   * Goes through all that is encrypted, one value at a time. It can be broken off and begun again: what is done already is
   * known by its first bytes. What somebody writes meanwhile is left alone.
   * @param onProgress is told how many values of a table are done, of how many
   */
  async rotate(
    onProgress: (table: string, done: number, of: number) => void = () => undefined,
  ): Promise<KeyRotation[]> {
    const outcomes: KeyRotation[] = [];
    for (const column of encryptedColumns) outcomes.push(await this.rotateColumn(column, onProgress));
    return outcomes;
  }

  private async rotateColumn(
    column: EncryptedColumn,
    onProgress: (table: string, done: number, of: number) => void,
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
         order by ${column.id}::text limit ${idsAtOnce}`,
        [writtenWith(keys[0]!), after],
      );
      for (const { id } of ids) {
        try {
          if (await this.rotateValue(column, keys, id)) outcome.rotated += 1;
        } catch (error) {
          if (!(error instanceof DecryptionFailed)) throw error;
          if (outcome.failed.length < mostFailedIds) outcome.failed.push(id);
        }
        done += 1;
        onProgress(column.table, done, Math.max(done, all));
      }
      if (ids.length < idsAtOnce) break;
      after = ids.at(-1)!.id;
    }
    outcome.left = await this.countLeft(column, keys[0]!);
    return outcome;
  }

  /** @returns whether it was encrypted anew; not when somebody has written it meanwhile */
  private async rotateValue(column: EncryptedColumn, keys: Buffer[], id: string): Promise<boolean> {
    const [row] = await this.database.query(
      `select ${column.context} as context, length(${column.column}) as bytes,
         ${beginningOf(column)} as beginning from ${column.table} where ${column.id}::text = $1`,
      [id],
    );
    if (!row) return false;
    const parts: Buffer[] = [];
    for (let from = 1; from <= row.bytes; from += readBytes) {
      const [piece] = await this.database.query(
        `select substring(${column.column} from $2::int for ${readBytes}) as part from ${column.table}
         where ${column.id}::text = $1 and ${beginningOf(column)} = $3`,
        [id, from, row.beginning],
      );
      if (!piece) return false;
      parts.push(piece.part);
    }
    const plain = decrypt(keys, Buffer.concat(parts), row.context);
    const [, affected] = await this.database.query(
      `update ${column.table} set ${column.column} = $2
       where ${column.id}::text = $1 and ${beginningOf(column)} = $3 and ${column.context} = $4`,
      [id, encrypt(keys[0]!, plain, row.context), row.beginning, row.context],
    );
    return affected === 1;
  }

  private async countLeft(column: EncryptedColumn, key: Buffer): Promise<number> {
    const [{ count }] = await this.database.query(
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

/** SQL for the beginning of a value: it holds its random IV, so that another value has another one. */
function beginningOf({ column }: EncryptedColumn): string {
  return `substring(${column} from 1 for 33)`;
}
