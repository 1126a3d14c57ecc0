import { Inject, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type EntityManager, LessThan, Repository } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { given } from '../platform/database/given.js';
import { Problem, ValidationFailed } from '../platform/errors/problem.js';
import type { PageQuery } from '../platform/http/pagination.js';
import { withoutTurn } from '../platform/http/fair-share.js';
import { type Login, splitLogin, toPublicUrl } from '../platform/http/public-fetch.js';
import { ConcurrencyLimit } from '../platform/limits/concurrency-limit.js';
import { SharedCounts } from '../platform/limits/shared-counts.js';
import { attempt, type AttemptOutcome } from './webhook-attempt.js';
import { cleanCa } from './ca-certificate.js';
import { mask, unmasked } from './webhook-headers.js';
import { newSecret, WebhookSecrets } from './webhook-secrets.js';
import { Webhook } from './webhook.entity.js';
import type { CreateWebhookDto, UpdateWebhookDto } from './webhooks.dto.js';

const maxPerWorkspace = 20;
/** How long the old secret also signs after a change. */
const overlapHours = 24;
/** How many tests of its webhooks a workspace may run at the same time. Each may take 15 seconds. */
const maxConcurrentTests = 4;
const deleteBatchSize = 10_000;

export class WebhookNotFound extends Problem {
  constructor(id: string) {
    super(404, 'webhook.not_found', `This workspace has no webhook ${id}. GET /webhooks lists its webhooks.`);
  }
}

export class WebhookLimitReached extends Problem {
  constructor() {
    super(
      409,
      'webhook.limit_reached',
      `The workspace has reached its limit of ${maxPerWorkspace} webhooks. Delete a webhook, or let another webhook take more events.`,
    );
  }
}

export class TooManyWebhookTests extends Problem {
  constructor(limit: number) {
    super(
      429,
      'webhook.too_many_tests',
      `This workspace is running ${limit} tests of webhooks, the limit. Wait until one has ended: each takes at most 15 seconds.`,
      undefined,
      5,
    );
  }
}

export class AccountsNotFound extends Problem {
  constructor(ids: string[]) {
    super(
      404,
      'account.not_found',
      `This workspace has no account ${ids.join(', ')}. GET /accounts lists its accounts.`,
    );
  }
}

/** An endpoint, and its secret if the answer may show it. */
export interface WithSecret {
  webhook: Webhook;
  secret: string | null;
}

/** The endpoints of workspaces. */
@Injectable()
export class WebhooksService {
  private readonly tests: ConcurrencyLimit;

  constructor(
    @InjectRepository(Webhook) private readonly webhooks: Repository<Webhook>,
    private readonly secrets: WebhookSecrets,
    @Inject(CONFIG) private readonly config: Config,
    counts: SharedCounts,
  ) {
    this.tests = new ConcurrencyLimit(
      counts,
      'webhook-tests',
      maxConcurrentTests,
      (limit) => new TooManyWebhookTests(limit),
    );
  }

  /**
   * Creates an endpoint, which gets events from now on.
   * @returns also the secret, which cannot be read again
   * @throws WebhookLimitReached, AccountsNotFound, UrlNotUsable, AddressNotPublic, ValidationFailed
   */
  async create(workspaceId: string, wanted: CreateWebhookDto): Promise<WithSecret & { secret: string }> {
    const { url, login } = this.checkedUrl(wanted.url);
    if (isMasked(login)) throw maskedLogin();
    const headers = unmasked(wanted.headers ?? {}, {});
    assertOneAuthorization(headers, login);
    assertTls(url, wanted.caCertificate);
    const id = uuidv7();
    const secret = wanted.secret ?? newSecret();
    const webhook = await this.webhooks.manager.transaction(async (manager) => {
      // Without the lock, two concurrent calls could exceed the limit. (A tenant's role may not lock the row of the workspace.)
      await manager.query(`select pg_advisory_xact_lock(hashtextextended('webhooks of ' || $1, 0))`, [
        workspaceId,
      ]);
      if ((await manager.countBy(Webhook, { workspaceId })) >= maxPerWorkspace)
        throw new WebhookLimitReached();
      await assertAccounts(manager, workspaceId, wanted.accountIds);
      return manager.save(
        manager.create(Webhook, {
          id,
          workspaceId,
          url,
          login: this.secrets.encryptObject(id, login),
          headers: this.secrets.encryptObject(id, headers),
          headerNames: Object.keys(headers),
          caCertificate: wanted.caCertificate ? cleanCa(wanted.caCertificate) : null,
          events: distinct(wanted.events),
          accountIds: distinct(wanted.accountIds) ?? null,
          labels: distinct(wanted.labels) ?? null,
          description: wanted.description ?? null,
          secret: this.secrets.encrypt(id, secret),
          isEnabled: true,
        }),
      );
    });
    return { webhook, secret };
  }

  /** Up to `limit + 1` endpoints of a workspace, newest first. */
  async list(workspaceId: string, { limit, cursor }: PageQuery): Promise<Webhook[]> {
    return this.webhooks.find({
      where: { workspaceId, ...given({ id: cursor && LessThan(cursor) }) },
      order: { id: 'DESC' },
      take: limit + 1,
    });
  }

  /** At most `limit` endpoints of all workspaces or of one, newest first, each with its open and its dead deliveries. */
  async listAll(
    limit: number,
    workspaceId?: string,
  ): Promise<
    (Pick<Webhook, 'id' | 'workspaceId' | 'url' | 'isEnabled' | 'disabledReason' | 'failingSince'> & {
      open: number;
      dead: number;
    })[]
  > {
    return this.webhooks.query(
      `select w.id, w.workspace_id as "workspaceId", w.url, w.is_enabled as "isEnabled",
         w.disabled_reason as "disabledReason", w.failing_since as "failingSince",
         (select count(*) from webhook_deliveries d where d.webhook_id = w.id and d.status in ('pending', 'failed'))::int as open,
         (select count(*) from webhook_deliveries d where d.webhook_id = w.id and d.status = 'dead')::int as dead
       from webhooks w where ($2::uuid is null or w.workspace_id = $2) order by w.id desc limit $1`,
      [limit, workspaceId ?? null],
    );
  }

  /** @throws WebhookNotFound */
  async get(workspaceId: string, id: string): Promise<Webhook> {
    const webhook = await this.webhooks.findOneBy({ id, workspaceId });
    if (!webhook) throw new WebhookNotFound(id);
    return webhook;
  }

  /**
   * Changes an endpoint. After a change of the secret, the old secret also signs for a day. Enabling an endpoint, or changing
   * its URL, makes its waiting deliveries due at once. Events that happened while it was disabled need a replay.
   * @returns also the secret if it is new
   * @throws WebhookNotFound, AccountsNotFound, UrlNotUsable, AddressNotPublic, ValidationFailed
   */
  async update(workspaceId: string, id: string, changes: UpdateWebhookDto): Promise<WithSecret> {
    const target = changes.url === undefined ? null : this.checkedUrl(changes.url);
    const { rotateSecret, secret: wantedSecret, isEnabled, events, accountIds, labels } = changes;
    const secret = wantedSecret ?? (rotateSecret ? newSecret() : null);
    const webhook = await this.webhooks.manager.transaction(async (manager) => {
      const found = await manager.findOne(Webhook, {
        where: { id, workspaceId },
        lock: { mode: 'for_no_key_update' },
      });
      if (!found) throw new WebhookNotFound(id);
      await assertAccounts(manager, workspaceId, accountIds);
      const isMoved = this.changeAccess(found, target, changes);
      Object.assign(
        found,
        given({
          description: changes.description,
          events: distinct(events),
          accountIds: distinct(accountIds),
          labels: distinct(labels),
        }),
      );
      if (secret !== null) {
        found.previousSecret = found.secret;
        found.previousSecretExpiresAt = new Date(Date.now() + overlapHours * 3_600_000);
        found.secret = this.secrets.encrypt(id, secret);
      }
      if (isEnabled === false && found.isEnabled) {
        Object.assign(found, { isEnabled, disabledReason: 'owner', disabledAt: new Date() });
      }
      const isResumed = isEnabled === true && !found.isEnabled;
      if (isResumed) Object.assign(found, { isEnabled, disabledReason: null, disabledAt: null });
      if (isResumed || isMoved) found.failingSince = null;
      const saved = await manager.save(found);
      // The endpoint does not get events that happened while it was disabled. A new URL alone must not skip any event.
      if (isResumed)
        await manager.query('update webhooks set active_from = pg_current_xact_id() where id = $1', [id]);
      if (isResumed || isMoved) await makeDue(manager, id);
      return saved;
    });
    return { webhook, secret };
  }

  /** Deletes an endpoint and all of its deliveries. @throws WebhookNotFound */
  async delete(workspaceId: string, id: string): Promise<void> {
    // A disabled endpoint gets no new deliveries, so the others can be deleted in short transactions.
    const { affected } = await this.webhooks.update(
      { id, workspaceId },
      { isEnabled: false, disabledReason: 'owner', disabledAt: new Date() },
    );
    if (!affected) throw new WebhookNotFound(id);
    let deleted: number;
    do {
      [, deleted] = await this.webhooks.query(
        `delete from webhook_deliveries where id in (
           select id from webhook_deliveries where webhook_id = $1 limit ${deleteBatchSize})`,
        [id],
      );
    } while (deleted === deleteBatchSize);
    await this.webhooks.delete({ id, workspaceId });
  }

  /**
   * Posts a `webhook.test` to an endpoint once, now, even if the endpoint is disabled. This event is not in the log.
   * @throws WebhookNotFound, TooManyWebhookTests
   */
  async test(workspaceId: string, id: string): Promise<AttemptOutcome & { eventId: string }> {
    const webhook = await this.get(workspaceId, id);
    const eventId = `test-${uuidv7()}`;
    const leave = this.tests.enter(workspaceId);
    try {
      const outcome = await withoutTurn(() =>
        attempt(
          this.secrets.endpointOf({ ...webhook, previousSecret: overlapping(webhook) }),
          {
            id: eventId,
            type: 'webhook.test',
            createdAt: new Date().toISOString(),
            workspaceId,
            accountId: null,
            data: { webhookId: id },
          },
          { allowPrivate: this.config.allowedPrivateAddresses, version: this.config.version },
        ),
      );
      return { ...outcome, eventId };
    } finally {
      leave();
    }
  }

  /** The parts of a URL that the endpoint's row keeps apart. @throws UrlNotUsable, AddressNotPublic */
  private checkedUrl(text: string): { url: string; login: Login | null } {
    const target = splitLogin(text);
    toPublicUrl(target.url, this.config.allowedPrivateAddresses);
    return target;
  }

  /**
   * Changes where and how an endpoint is called. Another server does not get the secrets of the one before.
   * @returns whether the URL is another one
   * @throws ValidationFailed
   */
  private changeAccess(
    found: Webhook,
    target: { url: string; login: Login | null } | null,
    { headers: wanted, caCertificate }: UpdateWebhookDto,
  ): boolean {
    const isMoved = target !== null && target.url !== found.url;
    const isOtherServer = isMoved && new URL(target.url).origin !== new URL(found.url).origin;
    const present = this.secrets.headersOf(found);
    if (isOtherServer && wanted === undefined && found.headerNames.length > 0)
      throw new ValidationFailed([
        { path: 'headers', message: 'must be sent again, with their values, for a URL of another server' },
      ]);
    const headers = wanted === undefined ? present : unmasked(wanted ?? {}, isOtherServer ? {} : present);
    const presentLogin = this.secrets.loginOf(found);
    if (isMasked(target?.login) && (isOtherServer || presentLogin === null)) throw maskedLogin();
    const login = target === null || isMasked(target.login) ? presentLogin : target.login;
    assertOneAuthorization(headers, login);
    if (target) found.url = target.url;
    if (caCertificate !== undefined) found.caCertificate = caCertificate ? cleanCa(caCertificate) : null;
    assertTls(found.url, found.caCertificate);
    found.login = this.secrets.encryptObject(found.id, login);
    found.headers = this.secrets.encryptObject(found.id, headers);
    found.headerNames = Object.keys(headers);
    return isMoved;
  }
}

/** The secret before a change, if it still signs. */
function overlapping({ previousSecret, previousSecretExpiresAt }: Webhook): Buffer | null {
  return (previousSecretExpiresAt?.getTime() ?? 0) > Date.now() ? previousSecret : null;
}

function isMasked(login: Login | null | undefined): boolean {
  return login?.user === mask || login?.password === mask;
}

function maskedLogin(): ValidationFailed {
  return new ValidationFailed([
    {
      path: 'url',
      message: `has the masked user and password of an answer: send them themselves, not ${mask}`,
    },
  ]);
}

/** @throws ValidationFailed */
function assertOneAuthorization(headers: Record<string, string>, login: Login | null): void {
  if (login && Object.keys(headers).some((name) => name.toLowerCase() === 'authorization'))
    throw new ValidationFailed([
      { path: 'headers', message: 'must not have Authorization: the user and password of the URL give it' },
    ]);
}

/** @throws ValidationFailed */
function assertTls(url: string, caCertificate: string | null | undefined): void {
  if (caCertificate && !url.startsWith('https:'))
    throw new ValidationFailed([{ path: 'caCertificate', message: 'needs a url that begins with https://' }]);
}

/**
 * SQL: whether the webhook `w` wants an event. The function looks at the labels of the event's account.
 * @param event the name of the event's row
 */
export const wanted = (event: string) => `webhook_wants(w, ${event}.type, ${event}.account_id)`;

/** Makes the deliveries of an endpoint that wait for their next attempt due now. */
async function makeDue(manager: EntityManager, id: string): Promise<void> {
  await manager.query('select from webhook_cursor for update');
  await manager.query(
    `update webhook_deliveries set next_attempt_at = null where webhook_id = $1 and status = 'failed'`,
    [id],
  );
  // A worker that runs a sequence sees the change by its version.
  await manager.query(
    `update webhook_lanes set version = version + 1, next_attempt_at = case when claim is null then now() else next_attempt_at end
     where webhook_id = $1 and next_attempt_at <> 'infinity'`,
    [id],
  );
}

/** @throws AccountsNotFound */
async function assertAccounts(
  manager: EntityManager,
  workspaceId: string,
  ids: string[] | null | undefined,
): Promise<void> {
  if (!ids) return;
  const unknown: { id: string }[] = await manager.query(
    `select wanted.id from unnest($2::uuid[]) wanted (id)
     where not exists (select from accounts a where a.id = wanted.id and a.workspace_id = $1)`,
    [workspaceId, ids],
  );
  if (unknown.length > 0) throw new AccountsNotFound(unknown.map(({ id }) => id));
}

const distinct = <List extends string[] | null | undefined>(list: List): List =>
  (list && [...new Set(list)]) as List;
