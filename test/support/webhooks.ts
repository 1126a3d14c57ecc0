import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { INestApplicationContext } from '@nestjs/common';
import { getDataSourceToken } from '@nestjs/typeorm';
import type { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { DatabaseModule } from '../../src/platform/database/database.module.js';
import { createLogger } from '../../src/platform/logging/logger.js';
import { SCHEDULED_TASKS, SchedulerService } from '../../src/platform/scheduling/scheduler.service.js';
import { createContext } from '../../src/platform/start-role.js';
import { QueueWorker } from '../../src/queues/queue-worker.js';
import { defaultWorkerOptions } from '../../src/queues/worker-options.js';
import { WorkerModule } from '../../src/roles/worker.module.js';
import { WebhookDeliveriesService } from '../../src/webhooks/webhook-deliveries.service.js';
import { WebhooksModule } from '../../src/webhooks/webhooks.module.js';
import { WebhooksService } from '../../src/webhooks/webhooks.service.js';
import { WebhookFanOutTask, WebhookSequencesTask } from '../../src/webhooks/webhooks.task.js';
import { type QueueSystem, queueSystem } from './queues.js';

export interface Received {
  id: string;
  type: string;
  accountId: string | null;
  data: { n?: number };
  headers: IncomingMessage['headers'];
  body: string;
  at: number;
}

/** An endpoint as a product has it: it records the requests, and answers as the test says. */
export class Receiver {
  readonly received: Received[] = [];
  /** The largest number of requests that were open at once. */
  maxOpen = 0;
  private open = 0;
  answer: (response: ServerResponse, got: Received) => void = (response) => response.end('thanks');

  private constructor(
    private readonly server: Server,
    readonly url: string,
  ) {
    server.on(
      'request',
      (request: IncomingMessage, response: ServerResponse) => void this.take(request, response),
    );
  }

  /** @param options `host`: its address; `tls`: its key and certificate, in PEM */
  static async start(
    port = 0,
    { host = '127.0.0.1', tls }: { host?: string; tls?: { key: string; cert: string } } = {},
  ): Promise<Receiver> {
    const server = (tls ? createTlsServer(tls) : createServer()).listen(port, host);
    await once(server, 'listening');
    const place = `${host.includes(':') ? `[${host}]` : host}:${(server.address() as AddressInfo).port}`;
    return new Receiver(server, `${tls ? 'https' : 'http'}://${place}/hook`);
  }

  /** The numbers of the events of an account, in the order of their arrival. */
  numbers(accountId: string | null): number[] {
    return this.received.filter((got) => got.accountId === accountId).map(({ data }) => data.n!);
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }

  private async take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.open += 1;
    this.maxOpen = Math.max(this.maxOpen, this.open);
    response.once('close', () => (this.open -= 1));
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const { id, type, accountId, data } = JSON.parse(body) as Received;
    const got = { id, type, accountId, data, headers: request.headers, body, at: Date.now() };
    this.received.push(got);
    this.answer(response, got);
  }
}

/** The parts of worker and scheduler for webhooks, composed as in their roles, in this process. */
export class WebhookSystem {
  private constructor(
    private readonly system: QueueSystem,
    readonly worker: INestApplicationContext,
    private readonly scheduler: INestApplicationContext,
    private readonly working: Promise<unknown>,
  ) {}

  static async start(redisNumber: number): Promise<WebhookSystem> {
    const system = await queueSystem(redisNumber);
    const config = { ...system.config, allowedPrivateAddresses: ['127.0.0.0/8'] };
    const silent = createLogger('test', 'silent');
    const tasks = [WebhookFanOutTask, WebhookSequencesTask];
    const schedulerModule = {
      module: class TestSchedulerModule {},
      imports: [DatabaseModule, WebhooksModule],
      providers: [
        ...tasks,
        { provide: SCHEDULED_TASKS, inject: tasks, useFactory: (...all: unknown[]) => all },
        SchedulerService,
      ],
    };
    const worker = await createContext(WorkerModule, config, silent, { handleSignals: false });
    const working = worker.get(QueueWorker).work(defaultWorkerOptions);
    const scheduler = await createContext(schedulerModule, config, silent, { handleSignals: false });
    return new WebhookSystem(system, worker, scheduler, working);
  }

  get webhooks(): WebhooksService {
    return this.worker.get(WebhooksService);
  }

  get deliveries(): WebhookDeliveriesService {
    return this.worker.get(WebhookDeliveriesService);
  }

  get database(): DataSource {
    return this.worker.get<DataSource>(getDataSourceToken());
  }

  get redis(): QueueSystem['redis'] {
    return this.system.redis;
  }

  async newWorkspace(): Promise<string> {
    const id = uuidv7();
    await this.database.query('insert into workspaces (id, name) values ($1, $2)', [id, 'test']);
    return id;
  }

  async newAccount(workspaceId: string, labels: string[] = []): Promise<string> {
    const id = uuidv7();
    await this.database.query(
      `insert into accounts (id, workspace_id, name, environment, labels) values ($1, $2, 'test', 'sandbox', $3)`,
      [id, workspaceId, labels],
    );
    return id;
  }

  /** Events with the numbers `from` up to `from + count - 1`, in one transaction. */
  async emit(
    workspaceId: string,
    {
      accountId = null,
      type = 'message.sent',
      from = 1,
      count = 1,
    }: { accountId?: string | null; type?: string; from?: number; count?: number } = {},
  ): Promise<void> {
    await this.database.query(
      `insert into events (workspace_id, account_id, type, data)
       select $1, $2, $3, jsonb_build_object('n', n) from generate_series($4::int, $4::int + $5::int - 1) n`,
      [workspaceId, accountId, type, from, count],
    );
  }

  /** Moves the times of an endpoint and its deliveries, as if this time had passed. */
  async pass(webhookId: string, hours: number): Promise<void> {
    for (const table of ['webhook_deliveries', 'webhook_lanes']) {
      await this.database.query(
        `update ${table} set next_attempt_at = next_attempt_at - $2 * interval '1 hour'
         where webhook_id = $1 and next_attempt_at <> 'infinity'`,
        [webhookId, hours],
      );
    }
    await this.database.query(
      `update webhooks set failing_since = failing_since - $2 * interval '1 hour' where id = $1`,
      [webhookId, hours],
    );
  }

  /** Stops the worker as a signal does. @returns when its running attempts have ended */
  async stopWorker(): Promise<void> {
    this.worker.get(QueueWorker).stop();
    await this.working;
  }

  async stop(): Promise<void> {
    await this.scheduler.close();
    await this.worker.close();
    await this.system.drop();
  }
}
