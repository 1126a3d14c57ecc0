import { type Priority, priorities } from '../queues/priorities.js';
import type { PacingDto } from '../workspaces/pacing-settings.dto.js';

/** The settings in force for one account: every field has a value. */
export interface PacingSettings {
  enabled: boolean;
  gapSeconds: Record<Priority, number>;
  jitter: number;
  burst: { size: number; pauseSeconds: number };
  dailyBudget: Record<ContactKind, number>;
  warmUp: { days: number; startPercent: number };
  typing: boolean;
  checkNumbers: boolean;
  coldPause: { afterRefusals: number; coolDownMinutes: number };
}

/** A cold contact has never written to the account. A message to any other contact is a reply. */
export type ContactKind = 'cold' | 'replies';

/** What an account has sent, and when it may send again. Times are milliseconds since 1970. */
export interface PacingState {
  /** The UTC day of the counts in `sent`, as `2026-01-31`. Null before the first message. */
  day: string | null;
  sent: Record<ContactKind, number>;
  /** Normal and campaign messages since the last pause. */
  burstSent: number;
  lastSentAt: number | null;
  /** The earliest time at which the next message may leave, by the number of its priority. */
  nextSendAt: number[];
  /** The UTC day on which the warm-up began. Null before the first message. */
  warmUpFrom: string | null;
}

export const newPacingState: PacingState = {
  day: null,
  sent: { cold: 0, replies: 0 },
  burstSent: 0,
  lastSentAt: null,
  nextSendAt: priorities.map(() => 0),
  warmUpFrom: null,
};

/** Where each number comes from: docs/account-safety.md. */
const defaults: PacingSettings = {
  enabled: true,
  gapSeconds: { urgent: 1, high: 2, normal: 5, campaign: 52 },
  jitter: 0.25,
  burst: { size: 20, pauseSeconds: 180 },
  dailyBudget: { cold: 250, replies: 2_000 },
  warmUp: { days: 14, startPercent: 10 },
  typing: true,
  checkNumbers: true,
  coldPause: { afterRefusals: 1, coolDownMinutes: 24 * 60 },
};

/** The priorities that pause after a burst. A person waits for messages of the other priorities. */
const pausedByBursts = new Set<Priority>(['normal', 'campaign']);

const dayMs = 86_400_000;

/** The settings of an account: its own, then its workspace's, then the defaults, field by field. */
export function effectivePacing(
  isLive: boolean,
  workspace: PacingDto | null,
  own: PacingDto | null,
): PacingSettings {
  const layers = [{ ...defaults, enabled: isLive }, workspace ?? {}, own ?? {}];
  const group = <Name extends 'gapSeconds' | 'burst' | 'dailyBudget' | 'warmUp' | 'coldPause'>(name: Name) =>
    Object.assign({}, ...layers.map((layer) => withoutUndefined(layer[name]))) as PacingSettings[Name];
  return {
    ...(Object.assign({}, ...layers.map(withoutUndefined)) as PacingSettings),
    gapSeconds: group('gapSeconds'),
    burst: group('burst'),
    dailyBudget: group('dailyBudget'),
    warmUp: group('warmUp'),
    coldPause: group('coldPause'),
  };
}

function withoutUndefined(layer: object | undefined): object {
  return Object.fromEntries(Object.entries(layer ?? {}).filter(([, value]) => value !== undefined));
}

/** The UTC day of a time, as `2026-01-31`. */
export function dayOf(time: number): string {
  return new Date(time).toISOString().slice(0, 10);
}

/** When budgets start again: the next midnight in UTC. */
export function nextMidnight(now: number): number {
  return Math.floor(now / dayMs + 1) * dayMs;
}

/** The day of the warm-up, 1 for the first day. Null if the account has no warm-up, or has finished it. */
export function warmUpDay(state: PacingState, { warmUp }: PacingSettings, now: number): number | null {
  const from = state.warmUpFrom ?? dayOf(now);
  const day = 1 + Math.max(0, Math.round((Date.parse(dayOf(now)) - Date.parse(from)) / dayMs));
  return day > warmUp.days ? null : day;
}

export interface Budget {
  limit: number;
  used: number;
  left: number;
}

/** Today's budgets, and what is left of them. During the warm-up, a budget above 0 is at least 1. */
export function budgetsOf(
  state: PacingState,
  settings: PacingSettings,
  now: number,
): Record<ContactKind, Budget> {
  const day = warmUpDay(state, settings, now);
  const { days, startPercent } = settings.warmUp;
  const percent = day === null ? 100 : startPercent + ((100 - startPercent) * (day - 1)) / days;
  const budget = (kind: ContactKind): Budget => {
    const full = settings.dailyBudget[kind];
    const limit = full === 0 ? 0 : Math.max(1, Math.floor((full * percent) / 100));
    const used = state.day === dayOf(now) ? state.sent[kind] : 0;
    return { limit, used, left: Math.max(0, limit - used) };
  };
  return { cold: budget('cold'), replies: budget('replies') };
}

/** Until when the budgets keep each kind back. Null: messages may leave. `Infinity`: the budget is 0. */
export function closedUntil(
  state: PacingState,
  settings: PacingSettings,
  now: number,
): Record<ContactKind, number | null> {
  const budgets = budgetsOf(state, settings, now);
  const until = ({ limit, left }: Budget) => (limit === 0 ? Infinity : left === 0 ? nextMidnight(now) : null);
  return { cold: until(budgets.cold), replies: until(budgets.replies) };
}

/**
 * The state after a message has left. Every priority then waits for the shorter of its own gap and the message's gap. So a
 * reply does not restart the gap of a campaign, and no two messages leave at the same moment. All priorities share one
 * jitter value, which keeps their order: a more urgent message never waits longer.
 * @param random from 0 to 1, as `Math.random`
 */
export function afterSend(
  state: PacingState,
  settings: PacingSettings,
  { priority, isCold, now, random }: { priority: Priority; isCold: boolean; now: number; random: number },
): PacingState {
  const stretch = 1000 * (1 + settings.jitter * (2 * random - 1));
  const { gapSeconds, burst } = settings;
  const wasIdle = state.lastSentAt === null || now - state.lastSentAt >= burst.pauseSeconds * 1000;
  const sentInBurst = (wasIdle ? 0 : state.burstSent) + (pausedByBursts.has(priority) ? 1 : 0);
  const pauses = sentInBurst >= burst.size;
  const kind: ContactKind = isCold ? 'cold' : 'replies';
  const today = dayOf(now);
  const sent = state.day === today ? state.sent : { cold: 0, replies: 0 };
  return {
    day: today,
    sent: { ...sent, [kind]: sent[kind] + 1 },
    burstSent: pauses ? 0 : sentInBurst,
    lastSentAt: now,
    nextSendAt: priorities.map((other, number) => {
      const gap = Math.min(gapSeconds[other], gapSeconds[priority]);
      const pause = pauses && pausedByBursts.has(other) ? burst.pauseSeconds : 0;
      const next = now + stretch * Math.max(gap, pause);
      return Math.round(other === priority ? next : Math.max(next, state.nextSendAt[number] ?? 0));
    }),
    warmUpFrom: state.warmUpFrom ?? today,
  };
}

/**
 * The state after the account's owner has written a message on the phone. It counts as a normal message. One of an earlier day changes
 * nothing, and no message waits less than before.
 * @param at when it was written
 */
export function afterSendElsewhere(
  state: PacingState,
  settings: PacingSettings,
  { isCold, at, now, random }: { isCold: boolean; at: number; now: number; random: number },
): PacingState {
  if (dayOf(at) !== dayOf(now)) return state;
  const after = afterSend(state, settings, { priority: 'normal', isCold, now: at, random });
  return {
    ...after,
    lastSentAt: Math.max(at, state.lastSentAt ?? 0),
    nextSendAt: after.nextSendAt.map((next, number) => Math.max(next, state.nextSendAt[number] ?? 0)),
  };
}

/** The state after a change of settings: no message waits longer than the longest wait of the new settings. */
export function limitWaits(state: PacingState, settings: PacingSettings, now: number): PacingState {
  const { gapSeconds, burst, jitter } = settings;
  const maxWaitMs = (priority: Priority) =>
    Math.max(gapSeconds[priority], pausedByBursts.has(priority) ? burst.pauseSeconds : 0) *
    (1 + jitter) *
    1000;
  return {
    ...state,
    nextSendAt: priorities.map((priority, number) =>
      Math.min(state.nextSendAt[number] ?? 0, Math.round(now + maxWaitMs(priority))),
    ),
  };
}

/** How long the recipient sees "typing…", in milliseconds: 1 to 3 seconds, longer for a longer text. @param random from 0 to 1 */
export function typingMsFor(text: string, random: number): number {
  const typingMs = (1_000 + 20 * text.length) * (0.75 + 0.5 * random);
  return Math.round(Math.min(3_000, Math.max(1_000, typingMs)));
}
