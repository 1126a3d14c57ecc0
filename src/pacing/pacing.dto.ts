import { type Priority, priorities } from '../queues/priorities.js';
import { budgetsOf, closedUntil, nextMidnight, type PacingSettings, warmUpDay } from './pacing.js';
import { type PacingRow, settingsOf, stateOf } from './pacing-rows.js';

export class BudgetResponse {
  limit!: number;
  used!: number;
  left!: number;
}

export class DailyBudgetResponse {
  cold!: BudgetResponse;
  replies!: BudgetResponse;
  resetsAt!: string;
}

export class WarmUpResponse {
  day!: number;
  ofDays!: number;
}

/** How an account sends: the settings in force, what they leave of today, and when it goes on. */
export class SendingResponse {
  /** Whether any of this holds: pacing is on for live accounts and off for sandbox ones, unless they say otherwise. */
  paced!: boolean;
  /** The account's own settings over its workspace's over the defaults. */
  settings!: PacingSettings;
  /** When a message of normal priority may leave; null when it may now. */
  nextSendAt!: string | null;
  nextSendAtByPriority!: Record<Priority, string | null>;
  /** Of the UTC day; null when the account is not paced. */
  budget!: DailyBudgetResponse | null;
  /** Null when the account has none, or is through. */
  warmUp!: WarmUpResponse | null;
  /**
   * Whether messages to contacts that have never written leave. `reason`: `refused` (WhatsApp refused some of them),
   * `budget` (today's is used up) or `no_budget` (it is set to 0, so there is no `until`).
   */
  cold!: { open: boolean; reason: string | null; until: string | null };
}

export function toSendingResponse(row: PacingRow): SendingResponse {
  const settings = settingsOf(row);
  const now = row.now.getTime();
  if (!row.isPaced) {
    const never = Object.fromEntries(priorities.map((priority) => [priority, null])) as Record<
      Priority,
      null
    >;
    return {
      paced: false,
      settings,
      nextSendAt: null,
      nextSendAtByPriority: never,
      budget: null,
      warmUp: null,
      cold: { open: true, reason: null, until: null },
    };
  }
  const state = stateOf(row);
  const budgets = budgetsOf(state, settings, now);
  const closed = closedUntil(state, settings, now);
  const cold = coldLane(row, closed.cold);
  // Either kind may be the one that goes on.
  const open = Math.min(cold.untilTime ?? 0, closed.replies ?? 0);
  const byPriority = Object.fromEntries(
    priorities.map((priority, number) => [
      priority,
      timeAfter(now, Math.max(open, state.nextSendAt[number] ?? 0)),
    ]),
  ) as Record<Priority, string | null>;
  const day = warmUpDay(state, settings, now);
  return {
    paced: true,
    settings,
    nextSendAt: byPriority.normal,
    nextSendAtByPriority: byPriority,
    budget: { ...budgets, resetsAt: new Date(nextMidnight(now)).toISOString() },
    warmUp: day === null ? null : { day, ofDays: settings.warmUp.days },
    cold: { open: cold.untilTime === null, reason: cold.reason, until: isoTime(cold.untilTime) },
  };
}

/** What holds the cold lane the longest, if anything does. */
function coldLane(
  { coldPausedUntil, coldPauseReason }: PacingRow,
  closed: number | null,
): { untilTime: number | null; reason: string | null } {
  const paused = coldPausedUntil?.getTime() ?? null;
  if (closed === null && paused === null) return { untilTime: null, reason: null };
  if ((closed ?? 0) > (paused ?? 0))
    return { untilTime: closed, reason: closed === Infinity ? 'no_budget' : 'budget' };
  return { untilTime: paused, reason: coldPauseReason };
}

function timeAfter(now: number, time: number): string | null {
  return time <= now ? null : isoTime(time);
}

/** Null for what never comes. */
function isoTime(time: number | null): string | null {
  return time === null || !Number.isFinite(time) ? null : new Date(time).toISOString();
}
