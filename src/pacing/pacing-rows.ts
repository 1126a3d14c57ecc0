import type { PacingDto } from '../workspaces/pacing-settings.dto.js';
import { closedUntil, effectivePacing, type PacingSettings, type PacingState } from './pacing.js';

/**
 * SQL for whether a message is cold: to somebody who has never written to the account. Null when the account is not paced,
 * since nobody asks then. A group is never cold: only its members write to it.
 * @param account, chatId SQL, with the table of each column named
 */
export function isColdSql(account: string, chatId: string): string {
  return `(select ${chatId} not like '%@g.us' and not exists (select from contacts
      where contacts.account_id = ${account} and contacts.chat_id = ${chatId})
    from account_pacing where account_pacing.account_id = ${account})`;
}

/** What is read of an account `a`, its workspace `w` and its row `p` of `account_pacing`, if it has one. */
export const pacingColumns = `a.id as "accountId", a.environment = 'live' as "isLive", a.pacing as own, w.pacing as workspace, now() as now,
  p.account_id is not null as "isPaced", p.day::text, p.cold_sent as "coldSent", p.replies_sent as "repliesSent",
  p.burst_sent as "burstSent", p.last_sent_at as "lastSentAt", p.next_send_at as "nextSendAt",
  p.warm_up_from::text as "warmUpFrom", p.cold_pause_reason as "coldPauseReason",
  case when p.cold_paused_until > now() then p.cold_paused_until end as "coldPausedUntil"`;

export interface PacingRow {
  accountId: string;
  isLive: boolean;
  own: PacingDto | null;
  workspace: PacingDto | null;
  now: Date;
  isPaced: boolean;
  /** From here on null without a row of `account_pacing`. */
  day: string | null;
  coldSent: number;
  repliesSent: number;
  burstSent: number;
  lastSentAt: Date | null;
  nextSendAt: Date[];
  warmUpFrom: string | null;
  coldPauseReason: string | null;
  /** Null when it is over. */
  coldPausedUntil: Date | null;
}

export function settingsOf({ isLive, workspace, own }: PacingRow): PacingSettings {
  return effectivePacing(isLive, workspace, own);
}

/** The state in a row of an account that is paced. */
export function stateOf(row: PacingRow): PacingState {
  return {
    day: row.day,
    sent: { cold: row.coldSent, replies: row.repliesSent },
    burstSent: row.burstSent,
    lastSentAt: row.lastSentAt?.getTime() ?? null,
    nextSendAt: row.nextSendAt.map((time) => time.getTime()),
    warmUpFrom: row.warmUpFrom,
  };
}

/** A state and the settings in force as the columns of `account_pacing` have them, in JSON. */
export function columnsOf(
  state: PacingState,
  settings: PacingSettings,
  now: number,
): Record<string, unknown> {
  const closed = closedUntil(state, settings, now);
  return {
    day: state.day,
    cold_sent: state.sent.cold,
    replies_sent: state.sent.replies,
    burst_sent: state.burstSent,
    last_sent_at: timeOf(state.lastSentAt),
    next_send_at: state.nextSendAt.map(timeOf),
    warm_up_from: state.warmUpFrom,
    cold_closed_until: timeOf(closed.cold),
    replies_closed_until: timeOf(closed.replies),
    pause_after: settings.coldPause.afterRefusals,
    cool_down: `${settings.coldPause.coolDownMinutes} minutes`,
  };
}

const columnTypes = {
  day: 'date',
  cold_sent: 'integer',
  replies_sent: 'integer',
  burst_sent: 'integer',
  last_sent_at: 'timestamptz',
  next_send_at: 'timestamptz[]',
  warm_up_from: 'date',
  cold_closed_until: 'timestamptz',
  replies_closed_until: 'timestamptz',
  pause_after: 'integer',
  cool_down: 'interval',
};
/** The columns that {@link columnsOf} gives: their names, their types for `jsonb_to_recordset`, and their assignments. */
export const stateColumns = {
  names: Object.keys(columnTypes).join(', '),
  types: Object.entries(columnTypes)
    .map(([name, type]) => `${name} ${type}`)
    .join(', '),
  from: (source: string) =>
    Object.keys(columnTypes)
      .map((name) => `${name} = ${source}.${name}`)
      .join(', '),
};

function timeOf(time: number | null): string | null {
  if (time === null) return null;
  return Number.isFinite(time) ? new Date(time).toISOString() : 'infinity';
}
