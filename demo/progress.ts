import type { Account, Message, SendMessage } from '../clients/typescript/src/index.js';
import { table } from './screen.js';

/** The rows of the table: the priorities, and the messages that are posted together. */
export const groups = ['urgent', 'high', 'normal', 'bulk (normal)'] as const;
export type Group = (typeof groups)[number];

export interface Planned {
  group: Group;
  accountId: string;
  to: string;
  text: string;
}

/** How far a status is on its way to `read`. */
export const steps: Partial<Record<Message['status'], number>> = {
  sent: 1,
  delivered: 2,
  read: 3,
  played: 3,
};
export const ended = new Set<Message['status']>([
  'read',
  'played',
  'failed',
  'unknown',
  'cancelled',
  'expired',
]);

/** The latest known state of every message, from answers and events in any order. */
export class SendingProgress {
  changedAt = Date.now();
  private readonly known = new Map<string, Message>();
  private readonly planned: Map<Group, number>;

  constructor(private readonly plan: Planned[]) {
    this.planned = new Map(
      groups.map((group) => [group, plan.filter((item) => item.group === group).length]),
    );
  }

  get messages(): Message[] {
    return [...this.known.values()];
  }

  /** How many messages do not have a final status yet. */
  get open(): number {
    return this.plan.length - this.messages.filter(({ status }) => ended.has(status)).length;
  }

  get isComplete(): boolean {
    return this.open <= 0;
  }

  /** Takes in a message, if it is newer than the known one. */
  see(message: Message): void {
    if (message.direction !== 'outgoing') return;
    const before = this.known.get(message.id);
    if (before && (ended.has(before.status) || (steps[message.status] ?? 0) < (steps[before.status] ?? 0))) {
      if (!ended.has(message.status)) return;
    }
    if (before?.status !== message.status) this.changedAt = Date.now();
    this.known.set(message.id, message);
  }

  of(group: Group): { total: number; sent: number; delivered: number; read: number } {
    return {
      total: this.planned.get(group) ?? 0,
      ...countSteps(this.messages.filter((m) => groupOf(m) === group)),
    };
  }
}

/** A quarter is posted as bulk; the rest one by one, spread over the accounts and the three priorities. */
export function planMessages(count: number, accounts: Account[], recipients: string[]): Planned[] {
  const bulkCount = Math.floor(count / 4);
  return Array.from({ length: count }, (_item, index) => {
    const inGroup = index < bulkCount ? index : index - bulkCount;
    const group = index < bulkCount ? 'bulk (normal)' : groups[Math.floor(inGroup / accounts.length) % 3]!;
    return {
      group,
      accountId: accounts[inGroup % accounts.length]!.id,
      to: `+${recipients[index % recipients.length]!}`,
      text: `Demo message ${index + 1} of ${count}, ${group}`,
    };
  });
}

export function toBody({ group, accountId, to, text }: Planned): SendMessage {
  const priority = group === 'bulk (normal)' ? 'normal' : group;
  return { accountId, to, text, priority, metadata: { group } };
}

export function groupOf({ metadata }: Message): Group | undefined {
  return groups.find((group) => group === metadata.group);
}

export function countSteps(messages: Message[]): { sent: number; delivered: number; read: number } {
  const reached = (step: number) => messages.filter(({ status }) => (steps[status] ?? 0) >= step).length;
  return { sent: reached(1), delivered: reached(2), read: reached(3) };
}

export function summary(messages: Message[]): string {
  const row = (name: string, ofRow: Message[]) => {
    const { sent, delivered, read } = countSteps(ofRow);
    const waits = ofRow
      .flatMap(({ createdAt, sentAt }) => (sentAt ? [Date.parse(sentAt) - Date.parse(createdAt)] : []))
      .sort((a, b) => a - b);
    const at = (share: number) => (waits.length ? `${waits[Math.ceil(share * waits.length) - 1]} ms` : '');
    return [name, String(sent), String(delivered), String(read), at(0.5), at(0.95), at(1)];
  };
  return table(
    ['priority', 'sent', 'delivered', 'read', 'wait median', 'wait p95', 'wait max'],
    [
      ...groups.map((group) =>
        row(
          group,
          messages.filter((message) => groupOf(message) === group),
        ),
      ),
      row('all', messages),
    ],
  );
}
