import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../../src/platform/config/config.js';

/** What operators ask and order in SQL, by what it is for. `'device-id'` and `'server-id'` stand for ids. */
export interface OperatorSql {
  loadOfServers: string;
  devicesOfServers: string;
  devicesByServer: string;
  usableServers: string;
  activeServers: string;
  tables: string;
  columns: string;
  registerServer: string;
  devicesOfServer: string;
  raiseCapacity: string;
  assignDevice: string;
  reassignDevice: string;
  reassignments: string;
  clearAssignments: string;
  conflicts: string;
}

/** Statements, and the servers that they name. */
export interface OperatorSource {
  source: string;
  sql: OperatorSql;
  servers: {
    registered: Record<string, unknown> & { id: string };
    raised: string;
    target: string;
    dead: string;
  };
}

/** Typed for this repository, each with the meaning of one of the seeds. */
const own: OperatorSource = {
  source: 'as an operator types it',
  sql: {
    loadOfServers: `select b.server_name, b.current_load, round(100::float8 * b.current_load / b.max_capacity, 2) as usage_percentage
      from backend_servers b order by 3 desc`,
    devicesOfServers: `select b.server_name, count(devices.id) as device_count, b.max_capacity, b.current_load,
        count(devices.id) filter (where devices.status = 'connected') as connected_count
      from backend_servers b left join devices on b.id = devices.assigned_server_id
      group by 1, 3, 4, b.id order by 2 desc`,
    devicesByServer: `select assigned_server_id, count(id) as device_count, sum((status = 'connected')::int) as connected_count
      from devices group by 1 order by 2 desc`,
    usableServers: `select * from backend_servers where is_active and is_healthy`,
    activeServers: `select * from backend_servers where is_active order by id`,
    tables: `select table_name from information_schema.tables where table_schema = 'public' and table_name in ('backend_servers')`,
    columns: `select column_name, data_type from information_schema.columns
      where table_name = 'devices' and 'assigned_server_id' = column_name`,
    registerServer: `insert into backend_servers (id, server_name, server_url, server_type, region, max_capacity, priority)
      values ('server-eu-7', 'Frankfurt', 'https://flotilla.example.org', 'vps', 'DE', 20, 5)`,
    devicesOfServer: `select id, device_name, assigned_server_id, status from devices where assigned_server_id in ('server-eu-7')`,
    raiseCapacity: `update backend_servers set max_capacity = 40 + 60 where id = 'server-small'`,
    assignDevice: `update devices set assigned_server_id = 'server-id' where assigned_server_id is null and id = 'device-id'`,
    reassignDevice: `update devices set updated_at = clock_timestamp(), assigned_server_id = 'server-next' where id = 'device-id'`,
    reassignments: `select at as created_at, l.* from (
        select created_at as at, message, details ->> 'device_id' as device_id,
          details ->> 'old_server' as old_server, details ->> 'new_server' as new_server
        from server_logs where message like 'Device assignment%' and log_type in ('info')) l
      order by at desc limit 5`,
    clearAssignments: `update devices set status = 'disconnected', assigned_server_id = null where assigned_server_id = 'server-gone'`,
    conflicts: `select id, device_name, status, updated_at from devices
      where status = 'disconnected' and now() - updated_at < interval '900 seconds' order by 4 desc`,
  },
  servers: {
    registered: {
      id: 'server-eu-7',
      name: 'Frankfurt',
      url: 'https://flotilla.example.org',
      type: 'vps',
      region: 'DE',
      max_capacity: 20,
      priority: 5,
    },
    raised: 'server-small',
    target: 'server-next',
    dead: 'server-gone',
  },
};

/** Beside a checkout that was made for the purpose; a clone has none. */
const seeds = join(projectRoot, '../shared/seeds');

/** Every statement of a sql, bash or javascript fence. */
function statementsOfTheSeeds(): string[] {
  return readdirSync(seeds)
    .sort()
    .flatMap((file) => [
      ...readFileSync(join(seeds, file), 'utf8').matchAll(/^ *```(?:sql|bash|javascript)\n(.*?)^ *```/gms),
    ])
    .flatMap(([, fence]) => {
      const code = fence!.replace(/^ *(#|\/\/).*$/gm, '');
      return [...code.matchAll(/^(?:SELECT|INSERT|UPDATE|DELETE)\b[^;]*(?:;|$(?![^]))/gm)];
    })
    .map(([statement]) => statement.trim());
}

/** The words by which a statement of the seeds is known. */
const words: Record<keyof OperatorSql, string[]> = {
  loadOfServers: ['usage_percentage'],
  devicesOfServers: ['device_count', 'LEFT JOIN devices'],
  devicesByServer: ['device_count', 'GROUP BY assigned_server_id'],
  usableServers: ['is_healthy = true AND'],
  activeServers: ['WHERE is_active = true;'],
  tables: ['information_schema.tables'],
  columns: ['information_schema.columns'],
  registerServer: ['INSERT INTO backend_servers'],
  devicesOfServer: ['SELECT id, device_name, assigned_server_id, status'],
  raiseCapacity: ['SET max_capacity = 100'],
  assignDevice: ['assigned_server_id IS NULL'],
  reassignDevice: ["assigned_server_id = 'new-server-id'"],
  reassignments: ['Device assignment changed'],
  clearAssignments: ['assigned_server_id = NULL'],
  conflicts: ["INTERVAL '15 minutes'"],
};

function ofTheSeeds(): OperatorSource {
  const statements = statementsOfTheSeeds();
  const found = Object.entries(words).map(([name, all]) => {
    const [one, ...more] = statements.filter((statement) => all.every((word) => statement.includes(word)));
    if (one === undefined || more.length > 0)
      throw new Error(`The seeds have not one statement with ${all.join()}.`);
    return [name, one] as const;
  });
  if (statements.length !== found.length) throw new Error(`The seeds have ${statements.length} statements.`);
  return {
    source: 'of the seeds, verbatim',
    sql: Object.fromEntries(found) as Record<keyof OperatorSql, string>,
    servers: {
      registered: {
        id: 'server-sg-1',
        name: 'Server Singapore 1',
        url: 'https://your-app.railway.app',
        type: 'railway',
        region: 'SG',
        max_capacity: 50,
        priority: 10,
      },
      raised: 'Server-VPS-1',
      target: 'new-server-id',
      dead: 'dead-server-id',
    },
  };
}

export const operatorSources: OperatorSource[] = existsSync(seeds) ? [own, ofTheSeeds()] : [own];
