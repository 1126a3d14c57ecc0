import type { PacingDto } from '../workspaces/pacing-settings.dto.js';
import { closedUntil, effectivePacing, type PacingSettings, type PacingState } from './pacing.js';

/**
 * SQL: whether a message is cold, that is, its recipient has never written to the account. Null if the account is not paced:
 * then no query needs the value. A group is never cold, because only its members write to it, and a story and a post in a channel go to
 * people who asked for them.
 * @param account SQL for the account's id. A column needs the name of its table.
 * @param chatId SQL for the recipient's chat id. A column needs the name of its table.
 */
export function isColdSql(account: string, chatId: string): string {
  return `(select split_part(${chatId}, '@', 2) not in ('g.us', 'newsletter', 'broadcast') and not exists (select from contacts
      where contacts.account_id = ${account} and contacts.chat_id = ${chatId})
    from account_pacing where account_pacing.account_id = ${account})`;
}

/** The columns of a {@link PacingRow}: from an account `a`, its workspace `w` and, if there is one, its `account_pacing` row `p`. */
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
  /** This column and the following columns are null if the account has no row in `account_pacing`. */
  day: string | null;
  coldSent: number;
  repliesSent: number;
  burstSent: number;
  lastSentAt: Date | null;
  nextSendAt: Date[];
  warmUpFrom: string | null;
  coldPauseReason: string | null;
  /** Null if the pause is over. */
  coldPausedUntil: Date | null;
}

export function settingsOf({ isLive, workspace, own }: PacingRow): PacingSettings {
  return effectivePacing(isLive, workspace, own);
}

/** The state in the row of a paced account. */
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

/** A state and the settings in force as columns of `account_pacing`, in JSON. */
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
/** The columns that {@link columnsOf} returns: their names, their types for `jsonb_to_recordset`, and their assignments. */
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
