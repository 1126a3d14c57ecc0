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

/** How an account sends: the settings in force, what is left of today's budgets, and when the next message may leave. */
export class SendingResponse {
  /** Whether the account is paced. By default, pacing is on for live accounts and off for sandbox accounts. */
  paced!: boolean;
  /** The settings in force. For each field, the account's setting comes first, then the workspace's, then the default. */
  settings!: PacingSettings;
  /** When a message of normal priority may leave. Null if it may leave now. */
  nextSendAt!: string | null;
  nextSendAtByPriority!: Record<Priority, string | null>;
  /** The budgets of the current UTC day. Null if the account is not paced. */
  budget!: DailyBudgetResponse | null;
  /** Null if the account has no warm-up, or has finished it. */
  warmUp!: WarmUpResponse | null;
  /**
   * Whether messages to contacts that have never written may leave. `reason` is `refused` (WhatsApp refused some of these
   * messages), `budget` (today's budget is used up) or `no_budget` (the budget is 0, so there is no `until`).
   */
  cold!: { open: boolean; reason: string | null; until: string | null };
}

export function toSendingResponse(row: PacingRow): SendingResponse {
  const settings = settingsOf(row);
  const now = row.now.getTime();
  if (!row.isPaced) {
    const noTimes = Object.fromEntries(priorities.map((priority) => [priority, null])) as Record<
      Priority,
      null
    >;
    return {
      paced: false,
      settings,
      nextSendAt: null,
      nextSendAtByPriority: noTimes,
      budget: null,
      warmUp: null,
      cold: { open: true, reason: null, until: null },
    };
  }
  const state = stateOf(row);
  const budgets = budgetsOf(state, settings, now);
  const closed = closedUntil(state, settings, now);
  const cold = coldLane(row, closed.cold);
  // The earlier kind decides: a message of that kind may leave while the other kind is still closed.
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

/** What keeps cold messages back the longest: a pause or a budget. Null if nothing does. */
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

/** Null also for `Infinity`, a time that never comes. */
function isoTime(time: number | null): string | null {
  return time === null || !Number.isFinite(time) ? null : new Date(time).toISOString();
}
