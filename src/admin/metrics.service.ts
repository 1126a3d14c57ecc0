import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import type { NextFunction, Request, Response } from 'express';
import { collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { DataSource } from 'typeorm';
import { accountStatuses } from '../accounts/account.entity.js';
import { OpenStreams } from '../events/open-streams.js';
import { MessageWaits } from '../messages/message-waits.js';
import { UnreadResponses } from '../platform/http/unread-responses.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { WorkersService } from '../queues/workers.service.js';
import { WebhookDeliveriesService } from '../webhooks/webhook-deliveries.service.js';
import { BacklogService } from './backlog.service.js';

/** The maximum age of figures from the database, so that several scrapers cost no more than one. */
const cacheMs = 5_000;

/** The metrics of this Flotilla and of this process, for Prometheus. */
@Injectable()
export class MetricsService {
  private readonly registry = new Registry();
  private readonly requests: Histogram<'method' | 'route' | 'status'>;
  private readonly openBytes: Gauge<'of'>;
  private readonly openStreams: Gauge;
  private readonly openWaits: Gauge;
  private readonly isDatabaseUp: Gauge;
  private readonly jobs: Gauge<'queue' | 'state'>;
  private readonly oldest: Gauge<'queue'>;
  private readonly paused: Gauge<'queue'>;
  private readonly failed: Gauge<'queue'>;
  private readonly workers: Gauge<'status'>;
  private readonly accounts: Gauge<'status'>;
  private readonly webIncompatible: Gauge<'version'>;
  private readonly deliveries: Gauge<'status'>;
  private readonly attempts: Gauge<'outcome'>;
  private collected: { at: number; done: Promise<void> } | null = null;

  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly backlog: BacklogService,
    private readonly workersService: WorkersService,
    private readonly webhooks: WebhookDeliveriesService,
    private readonly unread: UnreadResponses,
    private readonly streams: OpenStreams,
    private readonly waits: MessageWaits,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {
    collectDefaultMetrics({ register: this.registry });
    this.requests = new Histogram({
      name: 'flotilla_http_request_duration_seconds',
      help: 'Duration of requests to this process.',
      labelNames: ['method', 'route', 'status'],
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
      registers: [this.registry],
    });
    this.openBytes = this.gauge(
      'open_request_bytes',
      'Memory of the open requests of this process and of their unread answers: total, and of the workspace that holds the most.',
      'of',
    );
    this.openStreams = this.gauge('event_streams', 'Open event streams of this process.');
    this.openWaits = this.gauge('message_waits', 'Requests of this process that wait for a message.');
    this.isDatabaseUp = this.gauge(
      'database_up',
      'Whether PostgreSQL answered. If not, the metrics below are missing.',
    );
    this.jobs = this.gauge(
      'queue_jobs',
      'Jobs or messages of a queue: waiting (due), delayed (not yet due), active.',
      'queue',
      'state',
    );
    this.oldest = this.gauge(
      'queue_oldest_seconds',
      'How long the oldest due job or message has waited.',
      'queue',
    );
    this.paused = this.gauge('queue_paused', 'Whether a queue is paused.', 'queue');
    this.failed = this.gauge(
      'failed_jobs',
      'Failed jobs and messages, until they are retried or forgotten.',
      'queue',
    );
    this.workers = this.gauge('workers', 'Workers that are alive, on all servers.', 'status');
    this.accounts = this.gauge('accounts', 'Accounts by status.', 'status');
    this.webIncompatible = this.gauge(
      'web_incompatible_accounts',
      'Connected accounts whose page of WhatsApp Web lacks what sending needs, by version.',
      'version',
    );
    this.deliveries = this.gauge(
      'webhook_deliveries',
      'Webhook deliveries that have not arrived: pending, failed (to be retried), dead.',
      'status',
    );
    this.attempts = this.gauge(
      'webhook_attempts',
      'All delivery attempts of the existing webhooks: delivered, failed. It decreases when a webhook is deleted.',
      'outcome',
    );
  }

  /** Express middleware that measures requests by route. Paths hold ids, so their number has no limit. */
  readonly measure = (request: Request, response: Response, next: NextFunction): void => {
    const end = this.requests.startTimer({ method: request.method });
    response.once('finish', () => {
      const route = request.route as { path?: unknown } | undefined;
      end({
        route: typeof route?.path === 'string' ? `${request.baseUrl}${route.path}` : 'other',
        status: response.statusCode,
      });
    });
    next();
  };

  /** All metrics in the text format. It works without PostgreSQL and without Redis. */
  async read(): Promise<string> {
    if (!this.collected || Date.now() - this.collected.at > cacheMs) {
      this.collected = { at: Date.now(), done: this.collect() };
    }
    await this.collected.done;
    const { total, largest } = this.unread.count();
    this.openBytes.set({ of: 'total' }, total);
    this.openBytes.set({ of: 'largest' }, largest);
    this.openStreams.set(this.streams.count);
    this.openWaits.set(this.waits.count);
    return this.registry.metrics();
  }

  private async collect(): Promise<void> {
    const gauges = [
      this.jobs,
      this.oldest,
      this.paused,
      this.failed,
      this.workers,
      this.accounts,
      this.webIncompatible,
      this.deliveries,
      this.attempts,
    ];
    try {
      const [queues, workers, webhooks, accounts, incompatible] = await Promise.all([
        this.backlog.read(),
        this.workersService.listAlive(),
        this.webhooks.count(),
        this.database.query('select status, count(*)::int as count from accounts group by status') as Promise<
          { status: string; count: number }[]
        >,
        this.database.query(
          `select coalesce(web_version, 'unknown') as version, count(*)::int as count from accounts
           where web_contract = 'broken' and status in ('syncing', 'ready') group by 1`,
        ) as Promise<{ version: string; count: number }[]>,
      ]);
      gauges.forEach((gauge) => gauge.reset());
      for (const { name: queue, waiting, delayed, active, oldestSeconds, pausedAt, failed } of queues) {
        for (const [state, count] of Object.entries({ waiting, delayed, active })) {
          if (count !== null) this.jobs.set({ queue, state }, count);
        }
        if (oldestSeconds !== null) this.oldest.set({ queue }, oldestSeconds);
        this.paused.set({ queue }, pausedAt === null ? 0 : 1);
        this.failed.set({ queue }, failed);
      }
      for (const status of ['running', 'paused', 'stopping']) this.workers.set({ status }, 0);
      for (const { status } of workers) this.workers.inc({ status });
      for (const status of accountStatuses) this.accounts.set({ status }, 0);
      for (const { status, count } of accounts) this.accounts.set({ status }, count);
      for (const { version, count } of incompatible) this.webIncompatible.set({ version }, count);
      for (const status of ['pending', 'failed', 'dead'] as const)
        this.deliveries.set({ status }, webhooks[status]);
      this.attempts.set({ outcome: 'delivered' }, webhooks.attemptsDelivered);
      this.attempts.set({ outcome: 'failed' }, webhooks.attemptsFailed);
      this.isDatabaseUp.set(1);
    } catch (error) {
      // Without the reset, old figures would look current.
      gauges.forEach((gauge) => gauge.reset());
      this.isDatabaseUp.set(0);
      this.logger.warn({ err: error }, 'could not collect metrics from PostgreSQL');
    }
  }

  private gauge<Label extends string>(name: string, help: string, ...labelNames: Label[]): Gauge<Label> {
    return new Gauge({ name: `flotilla_${name}`, help, labelNames, registers: [this.registry] });
  }
}
