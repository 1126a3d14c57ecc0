import { budgetsOf, dayOf, nextMidnight, type PacingSettings, type PacingState } from '../pacing/pacing.js';
import { type CampaignPace, secondsPerMessage, tighten } from './pace.js';
import { allowedUntil, nextAllowed, type SendingPlan } from './sending-windows.js';

/** Recipients of the same sending times. */
export interface RecipientGroup {
  /** As `zoneKeyOf` makes it. */
  zoneKey: string;
  /** Recipients that have never written to the account. */
  cold: number;
  /** All others. */
  replies: number;
}

export interface EstimatedAccount {
  id: string;
  settings: PacingSettings;
  state: PacingState;
  /** Until when it sends nothing, for example while its cold lane is paused. */
  notBefore?: Date | null;
}

export interface EstimateInput {
  recipients: readonly RecipientGroup[];
  accounts: readonly EstimatedAccount[];
  pace: CampaignPace;
  plan: SendingPlan;
  /** When the campaign starts. */
  start: Date;
  /** How long it takes to send one message, in seconds. It counts if there are no longer gaps. */
  sendSeconds: number;
}

export interface AccountEstimate {
  accountId: string;
  messages: number;
  /** When its last message leaves. Null: it sends none, or nobody can tell. */
  end: Date | null;
  /** How many days' budgets its messages use up: 2.5 are two whole days and half of a third. 0 without budgets. */
  budgetDays: number;
}

export interface Estimate {
  /** When the last message leaves. Null: never, because budgets or windows are closed for good. */
  end: Date | null;
  /** The recipients that no message can reach: no moment is allowed in all zones of their country. */
  neverAllowed: { zoneKey: string; recipients: number }[];
  /** Of all accounts. */
  budgetDays: number;
  accounts: AccountEstimate[];
}

const dayMs = 86_400_000;
/** From then on, the estimate goes on at the speed of the days before. */
const simulatedDays = 60;
const averagedDays = 28;
/** The smaller groups count as a part of the largest one. */
const maxGroups = 30;
/** What a date can hold. */
const maxTime = 8.64e15;

interface Group extends RecipientGroup {
  opensAt: number;
  closesAt: number;
}

interface Sender extends AccountEstimate {
  account: EstimatedAccount;
  messageMs: number;
  freeAt: number;
  left: { cold: number; replies: number; all: number };
  limits: { cold: number; replies: number };
  used: { cold: number; replies: number };
  lastAt: number;
  /** Messages by the day of the simulation. */
  byDay: number[];
}

/**
 * When a campaign ends if its accounts share the recipients, stay connected and send nothing else. All accounts send whenever a group is
 * open and their pace and budgets allow it. The work is bounded: after 60 days it goes on at the average speed of the last 28.
 */
export function estimate({ recipients, accounts, pace, plan, start, sendSeconds }: EstimateInput): Estimate {
  const from = start.getTime();
  const groups: Group[] = [];
  const neverAllowed: Estimate['neverAllowed'] = [];
  for (const group of largest(recipients)) {
    if (nextAllowed(group.zoneKey, plan, start) === null)
      neverAllowed.push({ zoneKey: group.zoneKey, recipients: group.cold + group.replies });
    else groups.push({ ...group, opensAt: -Infinity, closesAt: -Infinity });
  }
  const senders = accounts.map((account) => newSender(account, pace, from, sendSeconds));
  const horizon = from + simulatedDays * dayMs;
  let time = from;
  let day: string | null = null;
  while (time < horizon && groups.some(hasRecipients)) {
    if (dayOf(time) !== day) {
      day = dayOf(time);
      for (const sender of senders) beginDay(sender, pace, from, time);
    }
    const waiting = groups.filter(hasRecipients);
    for (const group of waiting) if (group.closesAt <= time) findWindow(group, plan, time);
    const open = waiting.filter(({ opensAt }) => opensAt <= time);
    const end = Math.min(
      horizon,
      nextMidnight(time),
      ...waiting.map(({ opensAt, closesAt }) => (opensAt > time ? opensAt : closesAt)),
    );
    time = open.length === 0 ? end : sendUntil(end, time, open, senders, Math.floor((time - from) / dayMs));
  }
  const left = groups.reduce((sum, { cold, replies }) => sum + cold + replies, 0);
  const goesOn = left === 0 ? 0 : goOn(left, senders, time);
  return {
    end: goesOn === Infinity ? null : dateOf(Math.max(from, ...senders.map(({ lastAt }) => lastAt))),
    neverAllowed,
    budgetDays: rounded(senders.reduce((sum, { budgetDays }) => sum + budgetDays, 0)),
    accounts: senders.map((sender) => ({
      accountId: sender.accountId,
      messages: Math.round(sender.messages),
      end: sender.messages > 0 && goesOn !== Infinity ? dateOf(sender.lastAt) : null,
      budgetDays: rounded(sender.budgetDays),
    })),
  };
}

function largest(recipients: readonly RecipientGroup[]): RecipientGroup[] {
  const sorted = recipients
    .filter(hasRecipients)
    .sort((one, other) => other.cold + other.replies - one.cold - one.replies)
    .map((group) => ({ ...group }));
  for (const { cold, replies } of sorted.splice(maxGroups)) {
    sorted[0]!.cold += cold;
    sorted[0]!.replies += replies;
  }
  return sorted;
}

function hasRecipients({ cold, replies }: RecipientGroup): boolean {
  return cold + replies > 0;
}

function newSender(account: EstimatedAccount, pace: CampaignPace, from: number, sendSeconds: number): Sender {
  const { id, settings, state, notBefore } = account;
  const nextSendAt = settings.enabled ? (state.nextSendAt[0] ?? 0) : 0;
  return {
    accountId: id,
    messages: 0,
    end: null,
    budgetDays: 0,
    account,
    messageMs: 1000 * Math.max(sendSeconds, secondsPerMessage(tighten(settings, pace)), 0.001),
    freeAt: Math.max(from, nextSendAt, notBefore?.getTime() ?? 0),
    left: { cold: 0, replies: 0, all: 0 },
    limits: { cold: Infinity, replies: Infinity },
    used: { cold: 0, replies: 0 },
    lastAt: 0,
    byDay: [],
  };
}

/** The budgets of a UTC day. A warm-up that has not begun begins with the campaign. */
function beginDay(sender: Sender, pace: CampaignPace, from: number, time: number): void {
  const all = pace.dailyCap ?? Infinity;
  const { settings, state } = sender.account;
  if (!settings.enabled) {
    sender.left = { cold: Infinity, replies: Infinity, all };
    return;
  }
  const warmUpFrom = state.warmUpFrom ?? dayOf(from);
  const { cold, replies } = budgetsOf({ ...state, warmUpFrom }, settings, time);
  sender.limits = { cold: cold.limit, replies: replies.limit };
  sender.left = { cold: cold.left, replies: replies.left, all };
}

/** The present window of a group, or its next one. */
function findWindow(group: Group, plan: SendingPlan, time: number): void {
  const opens = nextAllowed(group.zoneKey, plan, new Date(time));
  group.opensAt = opens?.getTime() ?? Infinity;
  group.closesAt = opens
    ? (allowedUntil(group.zoneKey, plan, opens)?.getTime() ?? opens.getTime() + 14 * dayMs)
    : time + dayMs;
}

/**
 * Sends to the open groups until `end`, or until they are done.
 * @returns when it stopped
 */
function sendUntil(end: number, time: number, open: Group[], senders: Sender[], day: number): number {
  const pool = open.reduce(
    (sum, { cold, replies }) => ({ cold: sum.cold + cold, replies: sum.replies + replies }),
    { cold: 0, replies: 0 },
  );
  const isEnough = (until: number) => {
    const sent = share(pool, senders, time, until);
    return sent.cold >= pool.cold && sent.replies >= pool.replies;
  };
  let until = end;
  if (isEnough(end)) {
    let low = time;
    while (until - low > 1) {
      const middle = Math.floor((low + until) / 2);
      if (isEnough(middle)) until = middle;
      else low = middle;
    }
  }
  const sent = share(pool, senders, time, until, (sender, cold, replies) => {
    const count = cold + replies;
    const first = Math.max(time, sender.freeAt);
    sender.messages += count;
    sender.lastAt = first + (count - 1) * sender.messageMs;
    sender.freeAt = first + count * sender.messageMs;
    sender.left.cold -= cold;
    sender.left.replies -= replies;
    sender.left.all -= count;
    sender.byDay[day] = (sender.byDay[day] ?? 0) + count;
    // A budget of 0 has no part that is used up.
    if (cold > 0) sender.used.cold += cold / sender.limits.cold;
    if (replies > 0) sender.used.replies += replies / sender.limits.replies;
    sender.budgetDays = Math.max(sender.used.cold, sender.used.replies);
  });
  // Those who close first come first.
  for (const group of [...open].sort((one, other) => one.closesAt - other.closesAt))
    for (const kind of ['cold', 'replies'] as const) {
      const taken = Math.min(group[kind], sent[kind]);
      group[kind] -= taken;
      sent[kind] -= taken;
    }
  return until;
}

/** How many of the pool the accounts send from `time` until `until`. */
function share(
  pool: { cold: number; replies: number },
  senders: Sender[],
  time: number,
  until: number,
  take?: (sender: Sender, cold: number, replies: number) => void,
): { cold: number; replies: number } {
  const sent = { cold: 0, replies: 0 };
  for (const sender of senders) {
    const first = Math.max(time, sender.freeAt);
    if (first >= until) continue;
    const able = Math.min(Math.ceil((until - first) / sender.messageMs), sender.left.all);
    const cold = Math.min(able, sender.left.cold, pool.cold - sent.cold);
    const replies = Math.min(able - cold, sender.left.replies, pool.replies - sent.replies);
    if (cold + replies > 0) take?.(sender, cold, replies);
    sent.cold += cold;
    sent.replies += replies;
  }
  return sent;
}

/** Adds the rest of the messages at the average speed of the last days. @returns for how long, `Infinity` if that speed is 0 */
function goOn(left: number, senders: Sender[], time: number): number {
  const first = simulatedDays - averagedDays;
  const recent = senders.map(({ byDay }) => byDay.slice(first).reduce((sum, count) => sum + (count ?? 0), 0));
  const total = recent.reduce((sum, count) => sum + count, 0);
  if (total === 0) return Infinity;
  const duration = (left / total) * averagedDays * dayMs;
  senders.forEach((sender, index) => {
    const more = (left * recent[index]!) / total;
    if (more === 0) return;
    sender.budgetDays += (sender.budgetDays * more) / sender.messages;
    sender.messages += more;
    sender.lastAt = time + duration;
  });
  return duration;
}

function dateOf(time: number): Date {
  return new Date(Math.min(maxTime, Math.round(time)));
}

function rounded(budgetDays: number): number {
  return Math.round(budgetDays * 100) / 100;
}
