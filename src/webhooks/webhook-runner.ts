import { Inject, Injectable } from '@nestjs/common';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { attempt, attemptTimeoutMs } from './webhook-attempt.js';
import {
  type ClaimedSequence,
  maxConcurrentSequences,
  type WebhookSequence,
  WebhookSequences,
} from './webhook-sequences.js';
import { WebhookSecrets } from './webhook-secrets.js';

/** How many sequences this process runs at once. Each takes a connection, but no slot of a send. */
const slots = 64;
/**
 * A workspace may run this many times as many sequences as there are free slots. A single workspace gets 48 slots, two
 * workspaces get 27 each, and the next workspace finds a slot, however slow the endpoints of the others are.
 */
const maxPerFreeSlot = 3;
/** How long a sequence runs before another of its endpoint gets its turn. With the last attempt this is less than a claim. */
const turnMs = 5_000;
/** How long an endpoint keeps its slot before the next endpoint in the queue gets it. */
const maxRunMs = 20_000;

/**
 * Runs sequences in slots of its own, so that no message waits for an endpoint that hangs. If the process dies, the sweep
 * finds its sequences in PostgreSQL when their claims end.
 */
@Injectable()
export class WebhookRunner {
  private readonly running = new Map<string, WebhookSequence & { run: Promise<void> }>();
  private isStopping = false;
  /** A property, so that a test of an endpoint that hangs can shorten it. */
  private timeoutMs = attemptTimeoutMs;

  constructor(
    private readonly sequences: WebhookSequences,
    private readonly secrets: WebhookSecrets,
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  /**
   * Runs a sequence unless it runs already, and then other due sequences of its endpoint. Without a free slot it does
   * nothing: the next sweep finds the sequence again.
   * @returns when all of these sequences have ended
   */
  async begin(sequence: WebhookSequence): Promise<void> {
    const key = `${sequence.webhookId} ${sequence.laneId}`;
    if (this.isStopping || this.running.size >= slots || this.running.has(key)) return;
    const others = [...this.running.values()];
    if (others.filter(({ webhookId }) => webhookId === sequence.webhookId).length >= maxConcurrentSequences)
      return;
    const ofWorkspace = others.filter(({ workspaceId }) => workspaceId === sequence.workspaceId).length;
    if (ofWorkspace >= maxPerFreeSlot * (slots - others.length)) return;
    const run = this.runWhileDue(sequence).catch((error: unknown) =>
      // Usually PostgreSQL is down. The claim ends by itself, and the sweep finds the sequence.
      this.logger.warn(
        { err: error, ...sequence },
        'webhook deliveries were interrupted; the sweep continues them',
      ),
    );
    this.running.set(key, { ...sequence, run });
    try {
      await run;
    } finally {
      this.running.delete(key);
    }
  }

  /** Starts no more attempts. @returns when the running attempts have ended: after 17 seconds at most */
  async stop(): Promise<void> {
    this.isStopping = true;
    await Promise.all([...this.running.values()].map(({ run }) => run));
  }

  private async runWhileDue(first: WebhookSequence): Promise<void> {
    const started = performance.now();
    for (let sequence: WebhookSequence | null = first; sequence && !this.isStopping;) {
      if (performance.now() - started > maxRunMs) {
        await this.sequences.put(sequence);
        return;
      }
      const claimed = await this.sequences.claim(sequence);
      if (!claimed) return;
      await this.runSequence(claimed);
      sequence = await this.sequences.findDue(sequence.webhookId);
    }
  }

  private async runSequence(sequence: ClaimedSequence): Promise<void> {
    const started = performance.now();
    // If the process was suspended for longer than its turn, another worker may have the sequence: it must not post any more.
    const isOver = () => this.isStopping || performance.now() - started > turnMs;
    const endpoint = this.secrets.endpointOf({ ...sequence, id: sequence.webhookId });
    const done = { delivered: 0, failed: 0 };
    let known: string | null = null;
    for (let goesOn = true; goesOn && !isOver();) {
      const { version, deliveries } = await this.sequences.read(sequence);
      known = version;
      if (deliveries.length === 0) break;
      for (const { id, attempts, notification } of deliveries) {
        if (isOver()) break;
        if (!notification) {
          await this.sequences.recordForgotten(id);
          continue;
        }
        const outcome = await attempt(endpoint, notification, {
          allowPrivate: this.config.allowedPrivateAddresses,
          version: this.config.version,
          timeoutMs: this.timeoutMs,
        });
        if (outcome.error === null) {
          await this.sequences.recordSuccess(sequence, id, outcome);
          done.delivered += 1;
          continue;
        }
        const failure = await this.sequences.recordFailure(sequence, { id, attempts }, outcome);
        done.failed += 1;
        this.logger.info(
          { webhookId: sequence.webhookId, delivery: id, error: outcome.error, ...failure },
          failure
            ? 'webhook delivery failed'
            : 'webhook delivery failed, after another worker or a person changed it',
        );
        // After a dead delivery the next delivery has its turn, with all of its attempts.
        goesOn = failure !== null && failure.isDead && !failure.isDisabled;
        break;
      }
    }
    await this.sequences.release(sequence, { version: known, ...done });
  }
}
