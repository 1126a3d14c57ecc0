import type { QueueName } from './queue-policies.js';

const campaign: QueueName = 'whatsapp-campaign';
const urgent: QueueName = 'whatsapp-urgent';
const ahead: ReadonlySet<QueueName> = new Set<QueueName>(['whatsapp-high', 'whatsapp-normal']);

/**
 * Keeps campaigns from starving in a worker's queues: of `1 / share` jobs one is a campaign's, although high or normal ones
 * wait all the time. It counts and never draws lots, and urgent jobs are behind nobody.
 */
export class WorkerCampaignShare {
  private readonly every: number;
  /** High and normal jobs since the last one of a campaign, while one was waiting. */
  private others = 0;

  /** @param share from 0 (campaigns only when nothing else waits) to 0.5 */
  constructor(share: number) {
    this.every = share > 0 ? Math.round(1 / share) : Infinity;
  }

  /** The queues in the order in which they are to be looked at now, given how many jobs wait in each. */
  order(queues: readonly QueueName[], waiting: ReadonlyMap<QueueName, number>): readonly QueueName[] {
    if (!this.isDue(waiting)) return queues;
    const place = queues.findIndex((queue) => ahead.has(queue));
    if (place < 0 || queues.indexOf(campaign) < place) return queues;
    const others = queues.filter((queue) => queue !== campaign);
    return [...others.slice(0, place), campaign, ...others.slice(place)];
  }

  /** How many jobs of a queue may be taken in one go. */
  most(queue: QueueName, waiting: ReadonlyMap<QueueName, number>): number {
    if (queue === campaign && this.isDue(waiting)) return 1;
    if (!ahead.has(queue) || !(waiting.get(campaign)! > 0)) return Infinity;
    // With urgent ones waiting its turn comes later, and nobody is held up for it.
    return Math.max(1, this.every - 1 - this.others);
  }

  /** Remembers that jobs were taken. */
  note(queue: QueueName, count: number, waiting: ReadonlyMap<QueueName, number>): void {
    if (queue === campaign) this.others = 0;
    else if (ahead.has(queue) && waiting.get(campaign)! > 0) this.others += count;
  }

  private isDue(waiting: ReadonlyMap<QueueName, number>): boolean {
    return this.others + 1 >= this.every && waiting.get(campaign)! > 0 && !((waiting.get(urgent) ?? 0) > 0);
  }
}
