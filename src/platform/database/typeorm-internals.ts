import type { Pool, PoolClient } from 'pg';
import type { DataSource, EntityManager, ObjectLiteral } from 'typeorm';

/**
 * The parts of TypeORM that Flotilla uses beyond its documented interface. An upgrade may change them.
 * test/platform/typeorm-internals.spec.ts then fails.
 */

/** The `pg` pool behind a connected data source. */
export function poolOf(database: DataSource): Pool {
  return (database.driver as unknown as { master: Pool }).master;
}

/** The `pg` connection of a transaction. @throws TypeError outside of a transaction */
export async function clientOf(manager: EntityManager): Promise<PoolClient> {
  return (await manager.queryRunner!.connect()) as PoolClient;
}

/** An entity from a row of raw SQL. Columns that the row does not have are null. */
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
