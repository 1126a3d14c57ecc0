import { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Message } from '../../src/messages/message.entity.js';
import { dataSourceOptions } from '../../src/platform/database/data-source.js';
import { IsolatingPool } from '../../src/platform/database/isolation.js';
import { prepared, preparedIn } from '../../src/platform/database/prepared.js';
import { clientOf, poolOf, toEntity } from '../../src/platform/database/typeorm-internals.js';
import { scratchDatabase } from '../support/scratch-database.js';

/* What Flotilla uses of TypeORM beyond its documented interface: an upgrade that breaks it fails here. */

let drop: () => Promise<void>;
let database: DataSource;

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  const config = { ...scratch.config, database: { ...scratch.config.database, poolSize: 1 } };
  database = new DataSource({ ...dataSourceOptions(config), entities: [Message] });
  await database.initialize();
});
afterAll(async () => {
  await database?.destroy();
  await drop?.();
});

const backend = 'select pg_backend_pid() as pid';

it('poolOf returns the pool that the queries of the data source use', async () => {
  const pool = poolOf(database);
  expect(pool).toBeInstanceOf(IsolatingPool);
  expect((await pool.query(backend)).rows).toEqual(await database.query(backend));
});

it('clientOf returns the connection that the statements of the transaction use', async () => {
  await database.transaction(async (manager) => {
    await manager.query('create temporary table here (id int) on commit drop');
    const client = await clientOf(manager);
    expect((await client.query('select * from here')).rows).toEqual([]);
    expect((await client.query(backend)).rows).toEqual(await manager.query(backend));
  });
});

it('a statement is prepared once per connection', async () => {
  const text = 'select $1::int + 1 as next';
  expect(await prepared(database, text, [1])).toEqual([{ next: 2 }]);
  await database.transaction(async (manager) => {
    expect(await preparedIn(manager, text, [2])).toEqual([{ next: 3 }]);
  });
  const statements = 'select count(*)::int as count from pg_prepared_statements where statement = $1';
  expect(await database.query(statements, [text])).toEqual([{ count: 1 }]);
});

it('an entity from a row of raw SQL equals the entity that a repository finds', async () => {
  const [id, workspaceId, accountId] = [uuidv7(), uuidv7(), uuidv7()];
  await database.query(`insert into workspaces (id, name) values ($1, 'w')`, [workspaceId]);
  await database.query(
    `insert into accounts (id, workspace_id, name, environment) values ($1, $2, 'a', 'sandbox')`,
    [accountId, workspaceId],
  );
  const [row] = await database.query(
    `insert into messages (id, workspace_id, account_id, direction, type, chat_id, recipient, text, status, whatsapp_id,
       metadata, scheduled_for)
     values ($1, $2, $3, 'outgoing', 'text', 'x@c.us', 'x', 'Hello', 'scheduled', 'W', '{"order": 1}', now())
     returning *`,
    [id, workspaceId, accountId],
  );
  const found = await database.getRepository(Message).findOneByOrFail({ id });
  expect(found).toMatchObject({ workspaceId, text: 'Hello', metadata: { order: 1 }, media: null });
  expect(toEntity(database, Message, row)).toEqual(found);
});
