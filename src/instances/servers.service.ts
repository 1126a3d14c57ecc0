import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource, InjectRepository } from '@nestjs/typeorm';
import { randomBytes } from 'node:crypto';
import { DataSource, type EntityManager, MoreThan, Repository } from 'typeorm';
import { request } from 'undici';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import { given } from '../platform/database/given.js';
import { accountsByServer, accountsOnServer } from './account-counts.js';
import type { InstanceStatus } from './instance.entity.js';
import { placementLock } from './instances.service.js';
import { Server } from './server.entity.js';
import type {
  CreateServerDto,
  HealthCheckResponse,
  ListServersQuery,
  UpdateServerDto,
} from './servers.dto.js';

export class ServerNotFound extends Problem {
  constructor(id: string) {
    super(404, 'server.not_found', `There is no server ${id}. GET /api/v1/admin/servers lists the servers.`);
  }
}

export class ServerExists extends Problem {
  constructor(id: string) {
    super(
      409,
      'server.exists',
      `The server ${id} already exists. Change it with PATCH /api/v1/admin/servers/${id}.`,
    );
  }
}

export class ServerHasAccounts extends Problem {
  constructor(id: string, accounts: number) {
    super(
      409,
      'server.has_accounts',
      `${accounts} accounts are assigned to the server ${id}. Drain its instances or migrate the accounts first.`,
    );
  }
}

export class ServerHasLiveInstances extends Problem {
  constructor(id: string, instances: string[]) {
    super(
      409,
      'server.has_live_instances',
      `The server ${id} runs ${instances.join(', ')}. Stop its programs first: while they run, the server registers itself again.`,
    );
  }
}

const healthCheckTimeoutMs = 5_000;
/** A longer answer to a health check is not read, and its connection is closed. */
const maxHealthBodyBytes = 64 * 1024;

/** A server with its load. */
export interface ServerWithLoad extends Server {
  reserved: number;
  connected: number;
  instances: { id: string; status: InstanceStatus }[];
  sends: { avg: number | null; p95: number | null; p99: number | null };
}

/** The registry of the machines that run instances. */
@Injectable()
export class ServersService {
  constructor(
    @InjectRepository(Server) private readonly servers: Repository<Server>,
    @InjectDataSource() private readonly database: DataSource,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  /**
   * Registers the server of this process. Variables of the environment replace the row. Fields without a variable stay as they
   * are, because an operator may have set them. The server is healthy from now on, because an instance of it runs.
   */
  async register(manager: EntityManager = this.database.manager): Promise<void> {
    const { server, instance } = this.config;
    await manager.query(
      `insert into servers (id, name, url, type, region, environment, location, tags, max_capacity, priority, weight)
       values ($1, coalesce($2, $1), $3, coalesce($4, 'vps'), $5, coalesce($6, 'production'), $7,
         coalesce($8::text[], '{}'), coalesce($9::int, $12), coalesce($10::int, 0), coalesce($11::int, 1))
       on conflict (id) do update set name = coalesce($2, servers.name), url = coalesce($3, servers.url),
         type = coalesce($4, servers.type), region = coalesce($5, servers.region),
         environment = coalesce($6, servers.environment), location = coalesce($7, servers.location),
         tags = coalesce($8::text[], servers.tags), max_capacity = coalesce($9::int, servers.max_capacity),
         priority = coalesce($10::int, servers.priority), weight = coalesce($11::int, servers.weight),
         is_healthy = true, health_check_failures = 0, updated_at = now()`,
      [
        server.id,
        server.name,
        server.url,
        server.type,
        server.region,
        server.environment,
        server.location,
        server.tags,
        server.maxCapacity,
        server.priority,
        server.weight,
        instance.count * instance.maxAccounts,
      ],
    );
  }

  /**
   * Registers a server before its programs run.
   * @throws ServerExists
   */
  async create(wanted: CreateServerDto): Promise<ServerWithLoad> {
    const id = wanted.id ?? `server-${randomBytes(4).toString('hex')}`;
    const inserted = await this.servers
      .createQueryBuilder()
      .insert()
      .values({ maxCapacity: 50, ...given(wanted), id })
      .orIgnore()
      .returning('id')
      .execute();
    if ((inserted.raw as unknown[]).length === 0) throw new ServerExists(id);
    return this.get(id);
  }

  /** Up to `limit + 1` servers, by id. */
  async list({ limit, cursor }: ListServersQuery): Promise<ServerWithLoad[]> {
    const servers = await this.servers.find({
      where: cursor === undefined ? {} : { id: MoreThan(cursor) },
      order: { id: 'ASC' },
      take: limit + 1,
    });
    return this.withLoad(servers);
  }

  /** @throws ServerNotFound */
  async get(id: string): Promise<ServerWithLoad> {
    const server = await this.servers.findOneBy({ id });
    if (!server) throw new ServerNotFound(id);
    const [withLoad] = await this.withLoad([server]);
    return withLoad!;
  }

  /** @throws ServerNotFound */
  async update(id: string, changes: UpdateServerDto): Promise<ServerWithLoad> {
    const wanted = given(changes);
    if (Object.keys(wanted).length > 0) await this.servers.update({ id }, wanted);
    return this.get(id);
  }

  /**
   * Deletes an unused server and its dead instances.
   * @throws ServerNotFound, ServerHasAccounts, ServerHasLiveInstances
   */
  async delete(id: string): Promise<void> {
    await this.database.transaction(async (manager) => {
      // Nothing may be placed on the server between the check and the deletion.
      await manager.query('select pg_advisory_xact_lock($1)', [placementLock]);
      const [found]: { accounts: number; lives: string[] }[] = await manager.query(
        `select (${accountsOnServer('s.id')}) as accounts,
           array(select i.id from instances i where i.server_id = s.id and i.lease_expires_at > now() order by i.id) as lives
         from servers s where s.id = $1 for update of s`,
        [id],
      );
      if (!found) throw new ServerNotFound(id);
      if (found.accounts > 0) throw new ServerHasAccounts(id, found.accounts);
      if (found.lives.length > 0) throw new ServerHasLiveInstances(id, found.lives);
      await manager.delete(Server, { id });
    });
  }

  /**
   * Checks the health of a server and records the result. It asks the URL of the server, or its running instances if it has no
   * URL. The server is healthy if at least one of them answers with a status from 200 to 499 within five seconds.
   * @throws ServerNotFound
   */
  async checkHealth(id: string): Promise<HealthCheckResponse> {
    const { url } = await this.get(id);
    const live: { id: string; url: string }[] = await this.database.query(
      `select id, url from instances where server_id = $1 and lease_expires_at > now() and status <> 'down' order by id`,
      [id],
    );
    const asked = url === null ? live : [{ id, url }];
    const answers = await Promise.all(asked.map(async (one) => ({ id: one.id, ...(await probe(one.url)) })));
    const healthy = answers.filter(({ isHealthy }) => isHealthy);
    const isHealthy = healthy.length > 0;
    const responseTimeMs = isHealthy ? Math.max(...healthy.map(({ responseTimeMs: ms }) => ms ?? 0)) : null;
    const detail = describe(url, answers);
    const checkedAt = new Date();
    const failures = await this.database.transaction(async (manager) => {
      const [[row]]: [{ health_check_failures: number }[], number] = await manager.query(
        `update servers set is_healthy = $2, response_time_ms = coalesce($3, response_time_ms), last_health_check_at = $4,
           health_check_failures = case when $2 then 0 else health_check_failures + 1 end
         where id = $1 returning health_check_failures`,
        [id, isHealthy, responseTimeMs, checkedAt],
      );
      if (!row) throw new ServerNotFound(id);
      await manager.query(
        `insert into server_logs (server_id, log_type, message, details) values ($1, $2, 'Health check', $3)`,
        [id, isHealthy ? 'info' : 'warning', JSON.stringify({ isHealthy, responseTimeMs, detail })],
      );
      return row.health_check_failures;
    });
    return {
      isHealthy,
      responseTimeMs,
      checkedAt: checkedAt.toISOString(),
      failures,
      detail,
      instances:
        url === null
          ? answers.map((answer) => ({
              id: answer.id,
              isHealthy: answer.isHealthy,
              responseTimeMs: answer.responseTimeMs,
            }))
          : [],
    };
  }

  private async withLoad(servers: Server[]): Promise<ServerWithLoad[]> {
    const loads: (Pick<ServerWithLoad, 'id' | 'reserved' | 'connected' | 'instances'> &
      ServerWithLoad['sends'])[] = await this.database.query(
      `select s.id, coalesce(load.reserved, 0) as reserved, coalesce(load.connected, 0) as connected,
         coalesce((select jsonb_agg(jsonb_build_object('id', i.id, 'status', case
             when i.lease_expires_at < now() then 'down'
             when i.is_draining and i.status = 'active' then 'draining' else i.status end) order by i.id)
           from instances i where i.server_id = s.id), '[]') as instances,
         sends.avg, sends.p95, sends.p99
       from servers s left join (${accountsByServer}) load on load.server_id = s.id
       left join lateral (
         select sum(average_response_time_ms * messages_per_minute)
             / nullif(sum(messages_per_minute) filter (where average_response_time_ms is not null), 0) as avg,
           max(p95_response_time_ms) as p95, max(p99_response_time_ms) as p99
         from server_stats where server_id = s.id and at > now() - interval '5 minutes'
       ) sends on true
       where s.id = any($1)`,
      [servers.map(({ id }) => id)],
    );
    const byId = new Map(loads.map((load) => [load.id, load]));
    return servers.flatMap((server) => {
      const load = byId.get(server.id);
      if (!load) return [];
      const { reserved, connected, instances, avg, p95, p99 } = load;
      return [Object.assign(server, { reserved, connected, instances, sends: { avg, p95, p99 } })];
    });
  }
}

interface Answer {
  isHealthy: boolean;
  responseTimeMs: number | null;
  detail: string;
}

async function probe(url: string): Promise<Answer> {
  const started = performance.now();
  try {
    const { statusCode, body } = await request(`${url.replace(/\/+$/, '')}/health`, {
      signal: AbortSignal.timeout(healthCheckTimeoutMs),
    });
    await body.dump({ limit: maxHealthBodyBytes });
    const isHealthy = statusCode >= 200 && statusCode < 500;
    const responseTimeMs = Math.round(performance.now() - started);
    return { isHealthy, responseTimeMs, detail: `answers ${statusCode}` };
  } catch (error) {
    const { name, code, message } = error as Error & { code?: string };
    const reason =
      name === 'TimeoutError' ? `no answer within ${healthCheckTimeoutMs} ms` : (code ?? message);
    return { isHealthy: false, responseTimeMs: null, detail: reason };
  }
}

function describe(url: string | null, answers: ({ id: string } & Answer)[]): string {
  if (url !== null) return `${url}/health: ${answers[0]!.detail}`;
  if (answers.length === 0) {
    return 'The server has no url and no running instance, so there is nothing to ask. Start its programs, or set its url.';
  }
  return answers.map(({ id, detail }) => `${id}: ${detail}`).join('; ');
}
