import { Inject, Injectable } from '@nestjs/common';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { attempt } from './webhook-attempt.js';
import { type ClaimedLane, lanesAtOnce, type WebhookLane, WebhookSequences } from './webhook-sequences.js';
import { WebhookSecrets } from './webhook-secrets.js';

/** How many endpoints this process waits for at once; it costs a connection each, and no slot of a send. */
const slots = 64;
/**
 * A workspace may run so many times the lanes for which there is room left: alone it gets 48 slots, two get 27 each, and the
 * next one finds a slot however long the endpoints of the others take.
 */
const shareOfFree = 3;
/** How long a lane goes on before others of its endpoint get their turn. With the last attempt it is less than a claim. */
const turnMs = 5_000;
/** How long an endpoint keeps its slot before the next one in the queue gets it. */
const longestRunMs = 20_000;

/**
 * Runs lanes of endpoints in slots of its own, so that however many endpoints hang no message waits for one. What is lost
 * with the process is in PostgreSQL, and found there when its claims are over.
 */
@Injectable()
export class WebhookRunner {
  private readonly running = new Map<string, WebhookLane & { run: Promise<void> }>();
  private isStopping = false;

  constructor(
    private readonly lanes: WebhookSequences,
    private readonly secrets: WebhookSecrets,
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  /**
   * Starts to run a lane unless somebody does, and goes on with others of its endpoint; without a free slot the next sweep
   * finds it again.
   * @returns when it has ended, with what followed it
   */
  async begin(lane: WebhookLane): Promise<void> {
    const key = `${lane.webhookId} ${lane.laneId}`;
    if (this.isStopping || this.running.size >= slots || this.running.has(key)) return;
    const others = [...this.running.values()];
    if (others.filter(({ webhookId }) => webhookId === lane.webhookId).length >= lanesAtOnce) return;
    const ofWorkspace = others.filter(({ workspaceId }) => workspaceId === lane.workspaceId).length;
    if (ofWorkspace >= shareOfFree * (slots - others.length)) return;
    const run = this.runWhileDue(lane).catch((error: unknown) =>
      // Most often PostgreSQL is away. The claim ends by itself, and the sweep finds the lane.
      this.logger.warn({ err: error, ...lane }, 'a lane of a webhook was not run to its end'),
    );
    this.running.set(key, { ...lane, run });
    try {
      await run;
    } finally {
      this.running.delete(key);
    }
  }

  /** Begins nothing more. @returns when the attempts under way have ended: 17 seconds at the most */
  async stop(): Promise<void> {
    this.isStopping = true;
    await Promise.all([...this.running.values()].map(({ run }) => run));
  }

  private async runWhileDue(first: WebhookLane): Promise<void> {
    const started = performance.now();
    for (let lane: WebhookLane | null = first; lane && !this.isStopping;) {
      if (performance.now() - started > longestRunMs) {
        await this.lanes.put(lane);
        return;
      }
      const claimed = await this.lanes.claim(lane);
      if (!claimed) return;
      await this.runLane(claimed);
      lane = await this.lanes.findDue(lane.webhookId);
    }
  }

  private async runLane(lane: ClaimedLane): Promise<void> {
    const started = performance.now();
    // A process that was halted for longer than its turn finds the lane another's, and tells nobody anything.
    const isOver = () => this.isStopping || performance.now() - started > turnMs;
    const secrets = this.secretsOf(lane);
    const done = { delivered: 0, failed: 0 };
    let known: string | null = null;
    for (let goesOn = true; goesOn && !isOver();) {
      const { version, deliveries } = await this.lanes.read(lane);
      known = version;
      if (deliveries.length === 0) break;
      for (const { id, attempts, notification } of deliveries) {
        if (isOver()) break;
        if (!notification) {
          await this.lanes.recordForgotten(id);
          continue;
        }
        const outcome = await attempt(lane.url, secrets, notification, {
          allowPrivate: this.config.allowedPrivateAddresses,
          version: this.config.version,
        });
        if (outcome.error === null) {
          await this.lanes.recordSuccess(lane, id, outcome);
          done.delivered += 1;
          continue;
        }
        const failure = await this.lanes.recordFailure(lane, { id, attempts }, outcome);
        done.failed += 1;
        this.logger.info(
          { webhookId: lane.webhookId, delivery: id, error: outcome.error, ...failure },
          failure ? 'not delivered' : 'not delivered, and overtaken meanwhile',
        );
        // After a dead one the next has its turn, and its own tries.
        goesOn = failure !== null && failure.isDead && !failure.isDisabled;
        break;
      }
    }
    await this.lanes.release(lane, { version: known, ...done });
  }

  private secretsOf({ webhookId, secret, previousSecret }: ClaimedLane): string[] {
    return [secret, previousSecret].flatMap((encrypted) =>
      encrypted ? [this.secrets.decrypt(webhookId, encrypted)] : [],
    );
  }
}
