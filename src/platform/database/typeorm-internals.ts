import type { Pool, PoolClient } from 'pg';
import type { DataSource, EntityManager, ObjectLiteral } from 'typeorm';

/**
 * What Flotilla uses of TypeORM beyond its documented interface. An upgrade may change it, which
 * test/platform/typeorm-internals.spec.ts tells.
 */

/** The pool of `pg` behind a data source that is connected. */
export function poolOf(database: DataSource): Pool {
  return (database.driver as unknown as { master: Pool }).master;
}

/** The connection of `pg` in which a transaction runs. @throws TypeError outside of a transaction */
export async function clientOf(manager: EntityManager): Promise<PoolClient> {
  return (await manager.queryRunner!.connect()) as PoolClient;
}

/** An entity with the values of a row as raw SQL returns it; columns that the row does not have are null. */
export function toEntity<Entity extends ObjectLiteral>(
  database: DataSource,
  type: new () => Entity,
  row: Record<string, unknown>,
): Entity {
  const entity = new type();
  for (const column of database.getMetadata(type).columns) {
    column.setEntityValue(entity, row[column.databaseName] ?? null);
  }
  return entity;
}
