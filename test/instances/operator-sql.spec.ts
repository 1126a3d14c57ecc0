import { createHash } from 'node:crypto';
import { Client } from 'pg';
import { DataSource } from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { loadMigrations } from '../../src/platform/database/data-source.js';
import { insertAccount, insertInstance, insertRow, insertWorkspace, ready } from '../support/factories.js';
import { eventually } from '../support/eventually.js';
import { operatorSources } from '../support/operator-sql.js';
import { scratchDatabase } from '../support/scratch-database.js';

/* The views and functions for operators, and the SQL with which they use them. */

describe('the SQL of operators', () => {
  let client: Client;
  let url: string;
  let drop: () => Promise<void>;
  let workspaceId: string;

  beforeAll(async () => {
    const scratch = await scratchDatabase();
    drop = scratch.drop;
    url = scratch.config.database.url;
    client = new Client({ connectionString: url });
    await client.connect();
    workspaceId = await insertWorkspace(client);
  });
  afterAll(async () => {
    await client?.end();
    await drop?.();
  });
  beforeEach(async () => {
    await client.query(
      'truncate accounts, instances, servers, server_logs, connection_logs, server_stats cascade',
    );
  });

  const rows = async (sql: string, values: unknown[] = []) => (await client.query(sql, values)).rows;

  /** A statement for these ids. */
  const about = (statement: string, ids: { server?: string; device?: string }) =>
    statement.replaceAll("'server-id'", `'${ids.server}'`).replaceAll("'device-id'", `'${ids.device}'`);

  async function newServer(id: string, columns: Record<string, unknown> = {}): Promise<void> {
    await insertRow(client, 'backend_servers', { id, server_name: id, ...columns });
  }

  async function newInstance(serverId: string, { maxAccounts = 50, leaseMs = 60_000, number = 0 } = {}) {
    return insertInstance(client, `${serverId}.instance_0${number}`, { maxAccounts, leaseMs });
  }

  async function newAccount(columns: Record<string, unknown> = {}): Promise<string> {
    return insertAccount(client, workspaceId, { ...ready, ...columns });
  }

  async function newAccounts(count: number, columns: Record<string, unknown>): Promise<string[]> {
    const ids: string[] = [];
    while (ids.length < count) ids.push(await newAccount(columns));
    return ids;
  }

  const accountRow = async (id: string) => (await rows('select * from accounts where id = $1', [id]))[0];

  describe.each(operatorSources)('$source', ({ sql, servers }) => {
    const { target } = servers;

    it.each(Object.entries(sql))('runs: %s', async (_what, statement) => {
      await newServer('Server-VPS-1');
      await newAccount({ instance_id: await newInstance('Server-VPS-1') });
      await client.query(statement);
    });

    it('tells the load of every server', async () => {
      await newServer('server-a', { max_capacity: 8 });
      await newServer('server-b', { max_capacity: 3 });
      const a = await newInstance('server-a');
      await newAccount({ instance_id: a });
      await newAccount({ instance_id: a, status: 'qr' });
      await newAccount({ instance_id: a, status: 'disconnected', desired_state: 'disconnected' });
      await newAccount({ pinned_server_id: 'server-b', status: 'waiting' });
      expect(await rows(sql.loadOfServers)).toEqual([
        expect.objectContaining({ server_name: 'server-b', current_load: 1, usage_percentage: 33.33 }),
        expect.objectContaining({ server_name: 'server-a', current_load: 2, usage_percentage: 25 }),
      ]);
      expect(await rows(sql.devicesOfServers)).toEqual([
        {
          server_name: 'server-a',
          device_count: '3',
          max_capacity: 8,
          current_load: 2,
          connected_count: '1',
        },
        {
          server_name: 'server-b',
          device_count: '1',
          max_capacity: 3,
          current_load: 1,
          connected_count: '0',
        },
      ]);
      expect(await rows(sql.devicesByServer)).toEqual([
        { assigned_server_id: 'server-a', device_count: '3', connected_count: '1' },
        { assigned_server_id: 'server-b', device_count: '1', connected_count: '0' },
      ]);
    });

    it('shows which servers are usable, and that the tables are there', async () => {
      await newServer('server-a');
      await newServer('server-b', { is_active: false });
      await newServer('server-c', { is_healthy: false });
      expect((await rows(sql.usableServers)).map(({ id }) => id)).toEqual(['server-a']);
      expect((await rows(sql.activeServers)).map(({ id }) => id)).toEqual(['server-a', 'server-c']);
      expect(await rows(sql.tables)).toEqual([{ table_name: 'backend_servers' }]);
      expect(await rows(sql.columns)).toEqual([{ column_name: 'assigned_server_id', data_type: 'text' }]);
    });

    it('registers a server by hand, and lists its devices', async () => {
      await client.query(sql.registerServer);
      expect(await rows('select * from servers')).toEqual([
        expect.objectContaining({
          ...servers.registered,
          is_enabled: true,
          is_healthy: true,
        }),
      ]);
      const { id: server } = servers.registered;
      const id = await newAccount({ instance_id: await newInstance(server), name: 'Shop' });
      expect(await rows(sql.devicesOfServer)).toEqual([
        { id, device_name: 'Shop', assigned_server_id: server, status: 'connected' },
      ]);
      await expect(client.query(sql.registerServer)).rejects.toThrow(`there is a server "${server}" already`);
    });

    it('a new max_capacity takes effect, and is logged', async () => {
      await newServer(servers.raised, { max_capacity: 1 });
      await newAccount({ instance_id: await newInstance(servers.raised) });
      expect(await rows('select get_best_available_server() as id')).toEqual([{ id: null }]);
      const { rowCount } = await client.query(sql.raiseCapacity);
      expect(rowCount).toBe(1);
      expect(await rows('select max_capacity from servers')).toEqual([{ max_capacity: 100 }]);
      expect(await rows('select get_best_available_server() as id')).toEqual([{ id: servers.raised }]);
      const [log] = await rows('select * from server_logs order by id desc limit 1');
      expect(log).toMatchObject({
        server_id: servers.raised,
        message: 'Server settings changed',
        details: { changed: { max_capacity: { old: 1, new: 100 } } },
      });
    });

    it('assigns a device that nobody has, once, though two servers claim it at the same moment', async () => {
      await newServer('server-a');
      await newServer('server-b');
      await newInstance('server-a');
      await newInstance('server-b');
      const id = await newAccount({ status: 'waiting' });
      const other = new Client({ connectionString: url });
      await other.connect();
      try {
        const claim = (by: Client, server: string) =>
          by.query(about(sql.assignDevice, { server, device: id }));
        await other.query('begin');
        expect((await claim(other, 'server-b')).rowCount).toBe(1);
        const second = claim(client, 'server-a');
        const held = 'select from pg_stat_activity where pg_backend_pid() = any(pg_blocking_pids(pid))';
        await eventually('it waits', async () => (await other.query(held)).rowCount === 1);
        await other.query('commit');
        expect((await second).rowCount).toBe(0);
        expect(await accountRow(id)).toMatchObject({
          instance_id: 'server-b.instance_00',
          status: 'starting',
          epoch: 1,
        });
      } finally {
        await other.end();
      }
    });

    it('reassigns a device: to the least loaded instance with room, with a new epoch, in the history', async () => {
      await newServer('server-a');
      await newServer(target);
      const from = await newInstance('server-a');
      await newInstance(target, { leaseMs: -1 });
      await newInstance(target, { number: 1, maxAccounts: 1 });
      await newInstance(target, { number: 2 });
      await newAccount({ instance_id: `${target}.instance_01` });
      const id = await newAccount({ instance_id: from, held_by: from, epoch: 7 });
      const reassign = about(sql.reassignDevice, { device: id });
      const channel = (id: string) => `instance_${createHash('md5').update(id).digest('hex')}`;
      const owners = [from, `${target}.instance_02`].map(channel);
      for (const owner of owners) await client.query(`listen ${owner}`);
      const told: string[] = [];
      client.on('notification', (notification) => told.push(notification.channel));
      await client.query(reassign);
      expect(await accountRow(id)).toMatchObject({
        instance_id: `${target}.instance_02`,
        pinned_server_id: null,
        status: 'starting',
        epoch: 8,
        // The old owner lets go by itself; until then the new one does not start.
        held_by: from,
      });
      expect(told).toEqual(expect.arrayContaining(owners));
      expect(await rows(sql.reassignments)).toEqual([
        expect.objectContaining({ device_id: id, old_server: 'server-a', new_server: target }),
      ]);
      await client.query(reassign);
      expect(await accountRow(id)).toMatchObject({ epoch: 8 });
    });

    it('a device of a server that cannot take it now waits for that server', async () => {
      await newServer('server-a');
      await newServer(target, { max_capacity: 1 });
      const from = await newInstance('server-a');
      const id = await newAccount({ instance_id: from });
      await client.query(about(sql.reassignDevice, { device: id }));
      expect(await accountRow(id)).toMatchObject({
        instance_id: null,
        pinned_server_id: target,
        status: 'waiting',
        status_reason: `server ${target} has no live instance with room`,
        epoch: 1,
      });
      const idle = await newAccount({ status: 'created', desired_state: 'disconnected' });
      await client.query(`update devices set assigned_server_id = '${target}' where id = $1`, [idle]);
      expect(await accountRow(idle)).toMatchObject({
        pinned_server_id: target,
        status: 'created',
        epoch: 1,
      });
      // The one that waits for it has taken its only place.
      await newInstance(target);
      const late = await newAccount({ instance_id: from });
      await client.query(`update devices set assigned_server_id = '${target}' where id = $1`, [late]);
      expect(await accountRow(late)).toMatchObject({ instance_id: null, status: 'waiting' });
      await expect(
        client.query(`update devices set assigned_server_id = 'nowhere' where id = $1`, [id]),
      ).rejects.toMatchObject({
        message: 'there is no server "nowhere"',
        hint: expect.stringContaining('registers'),
      });
    });

    it('clears stuck assignments, and what was disconnected stays so until it is wanted again', async () => {
      await newServer(servers.dead);
      const dead = await newInstance(servers.dead, { leaseMs: -1 });
      const stuck = await newAccount({ instance_id: dead, status: 'reconnecting', epoch: 3 });
      const failed = await newAccount({ instance_id: dead, status: 'failed' });
      const unlinked = await newAccount({
        instance_id: dead,
        status: 'logged_out',
        desired_state: 'disconnected',
      });
      const pinned = await newAccount({ pinned_server_id: servers.dead, status: 'waiting' });
      const { rowCount } = await client.query(sql.clearAssignments);
      expect(rowCount).toBe(4);
      for (const id of [stuck, failed, pinned]) {
        expect(await accountRow(id)).toMatchObject({
          instance_id: null,
          pinned_server_id: null,
          status: 'disconnected',
          desired_state: 'disconnected',
        });
      }
      expect(await accountRow(stuck)).toMatchObject({ epoch: 4 });
      expect(await accountRow(pinned)).toMatchObject({ epoch: 1 });
      expect(await accountRow(unlinked)).toMatchObject({ instance_id: null, status: 'logged_out' });
      await client.query(`update devices set status = 'connecting' where id = $1`, [stuck]);
      expect(await accountRow(stuck)).toMatchObject({ status: 'waiting', desired_state: 'connected' });
      await client.query(`update devices set assigned_server_id = null where id = $1`, [stuck]);
      expect(await accountRow(stuck)).toMatchObject({ status: 'waiting', desired_state: 'connected' });
    });

    it('finds conflicts among what is disconnected', async () => {
      const id = await newAccount({ status: 'conflict', name: 'Twice' });
      await newAccount();
      await newAccount({ status: 'disconnected', updated_at: new Date(Date.now() - 3_600_000) });
      expect(await rows(sql.conflicts)).toEqual([
        expect.objectContaining({ id, device_name: 'Twice', status: 'disconnected' }),
      ]);
    });
  });

  it('failover: of ten devices five move to a server of capacity five, five wait, none is lost', async () => {
    await newServer('server-1');
    await newServer('server-2', { max_capacity: 5 });
    const one = await newInstance('server-1');
    await newInstance('server-2', { maxAccounts: 3 });
    await newInstance('server-2', { maxAccounts: 3, number: 1 });
    const ids = await newAccounts(10, { instance_id: one, held_by: one });
    await client.query(`update backend_servers set is_healthy = false where id = 'server-1'`);
    const after = await rows('select * from accounts where id = any($1)', [ids]);
    const moved = after.filter(({ instance_id }) => instance_id?.startsWith('server-2.'));
    expect(moved).toHaveLength(5);
    expect(moved.every(({ status }) => status === 'starting')).toBe(true);
    expect(moved.map(({ instance_id }) => instance_id).sort()).toEqual([
      ...Array(3).fill('server-2.instance_00'),
      ...Array(2).fill('server-2.instance_01'),
    ]);
    const waiting = after.filter(({ instance_id }) => instance_id === null);
    expect(waiting).toHaveLength(5);
    expect(
      waiting.every(({ status, desired_state }) => status === 'waiting' && desired_state === 'connected'),
    ).toBe(true);
    expect(after.every(({ epoch, held_by }) => epoch === 1 && held_by === one)).toBe(true);
    expect(await rows(`select current_load from backend_servers order by id`)).toEqual([
      { current_load: 0 },
      { current_load: 5 },
    ]);
    const log = await rows(
      `select details ->> 'reason' as reason from server_logs where message = 'Device assignment changed'`,
    );
    expect(log).toEqual(Array.from({ length: 10 }, () => ({ reason: 'server failure' })));
  });

  it('failover leaves a device whose session lies on that server only, and moves one with a snapshot', async () => {
    await newServer('server-1');
    await newServer('server-2');
    await newServer('server-3', { is_active: false });
    const one = await newInstance('server-1');
    await newInstance('server-2');
    await newInstance('server-3');
    const linked = { instance_id: one, linked_at: new Date() };
    const local = await newAccount(linked);
    const portable = await newAccount(linked);
    await client.query(
      `insert into session_snapshots (account_id, workspace_id, epoch, digest, size_bytes, data) values ($1, $2, 0, '', 0, '')`,
      [portable, workspaceId],
    );
    const conflict = await newAccount({ instance_id: one, status: 'conflict' });
    const choosy = await newAccount({ instance_id: one, placement: { location: 'Jakarta' } });
    const off = await newAccount({ instance_id: one, status: 'disconnected', desired_state: 'disconnected' });
    const [answer] = await rows(`select reassign_devices_on_server_failure('server-1') as moved`);
    expect(answer.moved).toBe(2);
    expect(await accountRow(local)).toMatchObject({ instance_id: one, status: 'ready', epoch: 0 });
    expect(await accountRow(portable)).toMatchObject({
      instance_id: 'server-2.instance_00',
      status: 'starting',
    });
    expect(await accountRow(conflict)).toMatchObject({
      instance_id: 'server-2.instance_00',
      status: 'conflict',
    });
    expect(await accountRow(choosy)).toMatchObject({ instance_id: null, status: 'waiting' });
    expect(await accountRow(off)).toMatchObject({ instance_id: one });
    expect(await rows('select reassign_devices_on_server_failure() as moved')).toEqual([{ moved: 0 }]);
    await expect(rows(`select reassign_devices_on_server_failure('nowhere')`)).rejects.toThrow(
      'there is no server',
    );
  });

  it('failover asks for the best server for each device again', async () => {
    for (const [id, columns] of Object.entries({
      'server-big': { max_capacity: 10 },
      'server-small': { max_capacity: 5 },
      'server-slow': { max_capacity: 5, response_time: 900 },
      'server-first': { max_capacity: 2, priority: 1 },
    })) {
      await newServer(id, columns);
      await newInstance(id);
    }
    await newServer('server-down');
    const down = await newInstance('server-down');
    const ids = await newAccounts(14, { instance_id: down });
    await client.query('begin');
    await client.query(`update servers set is_healthy = false where id = 'server-down'`);
    for (const id of [...ids].sort()) {
      await client.query(
        `update devices set assigned_server_id = get_best_available_server() where id = $1`,
        [id],
      );
    }
    const oneByOne = await rows('select id, assigned_server_id from devices order by id');
    await client.query('rollback');
    expect(await rows('select reassign_devices_on_server_failure($1) as moved', ['server-down'])).toEqual([
      { moved: 14 },
    ]);
    expect(await rows('select id, assigned_server_id from devices order by id')).toEqual(oneByOne);
  });

  it('the best server: priority first, then load for its size, then response time', async () => {
    const best = async () => (await rows('select get_best_available_server() as id'))[0].id;
    expect(await best()).toBeNull();
    await newServer('server-a', { response_time: 20 });
    await newServer('server-b', { response_time: 10 });
    await newServer('server-c');
    expect(await best()).toBe('server-b');
    await newAccount({ pinned_server_id: 'server-b', status: 'waiting' });
    expect(await best()).toBe('server-a');
    await client.query(`update backend_servers set priority = 1 where id = 'server-c'`);
    expect(await best()).toBe('server-c');
    await client.query(`update backend_servers set is_active = false where id = 'server-c'`);
    expect(await best()).toBe('server-a');
    await client.query(`update load_balancing set filters = '{"environment": "staging"}'`);
    expect(await best()).toBeNull();
    await client.query(`update load_balancing set filters = '{}'`);
  });

  it('tells the health, the capacity and the connection log', async () => {
    await newServer('server-a', { max_capacity: 3 });
    const instance = await newInstance('server-a', { maxAccounts: 20 });
    const id = await newAccount({ instance_id: instance, status: 'starting' });
    await client.query(
      `update accounts set status = 'failed', status_reason = 'launch: no browser' where id = $1`,
      [id],
    );
    await client.query(
      `insert into server_stats (server_id, instance_id, at, cpu, memory, memory_bytes, accounts, connected,
         messages_per_minute, error_rate, average_response_time_ms, p95_response_time_ms, p99_response_time_ms, uptime_seconds)
       values ('server-a', $1, now() - interval '1 minute', 90, 91, 1, 1, 1, 1, 1, 1, 1, 1, 1),
              ('server-a', $1, now(), 45.2, 67.8, 5, 1, 0, 120, 0.1, 150, 300, 500, 86400)`,
      [instance],
    );
    expect(await rows('select * from server_health_status')).toEqual([
      expect.objectContaining({
        id: 'server-a',
        is_healthy: true,
        active_instances: 1,
        cpu: 45.2,
        memory: 67.8,
        messages_per_minute: 120,
        error_rate: 0.1,
        average_response_time: 150,
        p95_response_time: 300,
        p99_response_time: 500,
        uptime: 86400,
      }),
    ]);
    expect(await rows('select * from server_capacity_overview')).toEqual([
      expect.objectContaining({
        max_capacity: 3,
        current_load: 1,
        available_capacity: 2,
        usage_percentage: 33.33,
        active_instances: 1,
        instance_capacity: 20,
      }),
    ]);
    expect(await rows('select * from device_connection_logs')).toEqual([
      expect.objectContaining({
        device_id: id,
        user_id: workspaceId,
        server_id: 'server-a',
        event_type: 'error',
        error_message: 'launch: no browser',
      }),
    ]);
  });

  it.each([
    [`insert into backend_servers (id) values ('a b')`, 'a server id has 3 to 128 letters'],
    [`insert into backend_servers (id) values ('admin')`, 'reserved word'],
    [`insert into backend_servers (id, max_capacity) values ('server-x', 0)`, 'between 1 and 100000'],
    [`insert into backend_servers (id, server_url) values ('server-x', 'ftp://x')`, 'http or https'],
    [`insert into backend_servers (id, api_key) values ('server-x', 'k')`, 'no api_key'],
    [`update backend_servers set weight = 0`, 'between 1 and 1000'],
    [`update backend_servers set id = 'server-y'`, 'cannot be changed'],
    [`update backend_servers set current_load = 0`, 'is counted'],
    [`delete from backend_servers`, '1 devices are assigned'],
    [`insert into devices (id) values ('x')`, 'not created or deleted by SQL'],
    [`delete from devices`, 'not created or deleted by SQL'],
    [`update devices set status = 'connected'`, 'cannot be set to "connected"'],
    [`update devices set status = null`, 'cannot be set'],
    [`update devices set epoch = 9, phone_number = '1'`, 'devices.epoch, phone_number cannot be written'],
  ])('refuses in clear words: %s', async (statement, message) => {
    await newServer('server-a');
    await newAccount({ instance_id: await newInstance('server-a'), status: 'disconnected' });
    await expect(client.query(statement)).rejects.toThrow(message);
  });

  it('deletes a server that is out of use, but not a server that runs', async () => {
    await newServer('server-a');
    await newInstance('server-a');
    await expect(client.query('delete from backend_servers')).rejects.toThrow('runs: server-a.instance_00');
    await client.query(`update instances set lease_expires_at = now()`);
    await client.query('delete from backend_servers');
    expect(await rows('select * from instances')).toEqual([]);
    const [made] = await rows(`insert into backend_servers (server_name) values ('New') returning *`);
    expect(made).toMatchObject({
      id: expect.stringMatching(/^server-[0-9a-f]{8}$/),
      max_capacity: 50,
      current_load: 0,
    });
  });

  it('goes back', async () => {
    const database = new DataSource({ type: 'postgres', url, migrations: await loadMigrations() });
    await database.initialize();
    try {
      const isThere = async () => (await rows(`select to_regclass('devices') is not null as it`))[0].it;
      while (await isThere()) await database.undoLastMigration();
      expect(
        await rows(
          `select 1 from pg_proc where pronamespace = 'public'::regnamespace and proname in ('round', 'update_device')`,
        ),
      ).toEqual([]);
      await database.runMigrations();
    } finally {
      await database.destroy();
    }
  });
});
