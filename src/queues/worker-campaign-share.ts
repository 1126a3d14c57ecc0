import type { QueueName } from './queue-policies.js';

const campaign: QueueName = 'whatsapp-campaign';
const urgent: QueueName = 'whatsapp-urgent';
const competing: ReadonlySet<QueueName> = new Set<QueueName>(['whatsapp-high', 'whatsapp-normal']);

/**
 * Keeps campaigns from starving in the queues of a worker: one of `1 / share` jobs is a campaign job, even if high or normal
 * jobs always wait. The choice is counted, never random. An urgent job never waits for a campaign job.
 */
export class WorkerCampaignShare {
  private readonly interval: number;
  /** High and normal jobs taken since the last campaign job, while a campaign job was waiting. */
  private competingCount = 0;

  /** @param share from 0 (campaigns only when nothing else waits) to 0.5 */
  constructor(share: number) {
    this.interval = share > 0 ? Math.round(1 / share) : Infinity;
  }

  /** The order in which the worker checks the queues now. @param waiting the number of waiting jobs of each queue */
  order(queues: readonly QueueName[], waiting: ReadonlyMap<QueueName, number>): readonly QueueName[] {
    if (!this.isDue(waiting)) return queues;
    const place = queues.findIndex((queue) => competing.has(queue));
    if (place < 0 || queues.indexOf(campaign) < place) return queues;
    const others = queues.filter((queue) => queue !== campaign);
    return [...others.slice(0, place), campaign, ...others.slice(place)];
  }

  /** The maximum number of jobs that the worker may take from a queue at once. */
  maxBatch(queue: QueueName, waiting: ReadonlyMap<QueueName, number>): number {
    if (queue === campaign && this.isDue(waiting)) return 1;
    if (!competing.has(queue) || !(waiting.get(campaign)! > 0)) return Infinity;
    // While urgent jobs wait, the turn of the campaign is late. High and normal jobs do not wait for it.
    return Math.max(1, this.interval - 1 - this.competingCount);
  }

  /** Counts the taken jobs. */
  record(queue: QueueName, count: number, waiting: ReadonlyMap<QueueName, number>): void {
    if (queue === campaign) this.competingCount = 0;
    else if (competing.has(queue) && waiting.get(campaign)! > 0) this.competingCount += count;
  }

  private isDue(waiting: ReadonlyMap<QueueName, number>): boolean {
    const isTurn = this.competingCount + 1 >= this.interval;
    return isTurn && waiting.get(campaign)! > 0 && !((waiting.get(urgent) ?? 0) > 0);
  }
}
