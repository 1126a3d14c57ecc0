import { dayOf, nextMidnight, type PacingSettings } from '../pacing/pacing.js';
import type { CampaignPacingDto } from './campaign-pacing.dto.js';

/*
 * How fast one account sends the messages of one campaign. The account's own pacing holds as well: a message leaves at the later of both
 * times. So a campaign can only make an account slower.
 */

/** Each wait is a random one of a range, in seconds. */
export interface CampaignPace {
  gapSeconds: Range;
  /** The pause after so many messages. Null: no pauses. */
  batch: { size: number; pauseSeconds: Range } | null;
  /** The maximum number of messages of the campaign, for each account and UTC day. Null: no maximum. */
  dailyCap: number | null;
}

export interface Range {
  from: number;
  to: number;
}

/** What one account has sent of a campaign, and when it may send again. Times are milliseconds since 1970. */
export interface CampaignPaceState {
  /** The UTC day of `sentToday`, as `2026-01-31`. Null before the first message. */
  day: string | null;
  sentToday: number;
  /** Messages since the last pause. */
  batchSent: number;
  lastSentAt: number | null;
  /** The earliest time of the next message. */
  nextAt: number;
}

export const newCampaignPaceState: CampaignPaceState = {
  day: null,
  sentToday: 0,
  batchSent: 0,
  lastSentAt: null,
  nextAt: 0,
};

export const pacePresetNames = ['paranoid', 'safe', 'balanced', 'fast', 'aggressive'] as const;
export type PacePresetName = (typeof pacePresetNames)[number];

/** The random variation of waits, if a campaign does not say another one. */
export const defaultJitter = 0.25;

/**
 * The speed tiers of the Laravel system that Flotilla follows, under the names that its users know. None is a promise. The defaults of an
 * account are `safe`: a faster tier has an effect only on accounts whose own pacing is faster.
 */
export const pacePresets: Readonly<Record<PacePresetName, CampaignPacingDto>> = {
  paranoid: { gapSeconds: { from: 90, to: 120 }, batch: { size: 10, pauseSeconds: 300 } },
  safe: { gapSeconds: { from: 45, to: 60 }, batch: { size: 20, pauseSeconds: 180 } },
  balanced: { gapSeconds: { from: 30, to: 45 }, batch: { size: 25, pauseSeconds: 150 } },
  fast: { gapSeconds: { from: 20, to: 30 }, batch: { size: 30, pauseSeconds: 120 } },
  aggressive: { gapSeconds: { from: 10, to: 20 }, batch: { size: 40, pauseSeconds: 90 } },
};

/** As fast as the account's own pacing lets it. */
export const noPace: CampaignPace = { gapSeconds: { from: 0, to: 0 }, batch: null, dailyCap: null };

/** The pace of a campaign from its settings: a field of its own replaces that of its preset. Without settings: {@link noPace}. */
export function campaignPaceOf(settings: CampaignPacingDto | null | undefined): CampaignPace {
  const preset = settings?.preset === undefined ? {} : pacePresets[settings.preset];
  const jitter = settings?.jitter ?? defaultJitter;
  const batch = settings?.batch ?? preset.batch;
  const { from, to } = settings?.gapSeconds ?? preset.gapSeconds ?? noPace.gapSeconds;
  return {
    gapSeconds: varied(from, to, jitter),
    batch: batch
      ? { size: batch.size, pauseSeconds: varied(batch.pauseSeconds, batch.pauseSeconds, jitter) }
      : null,
    dailyCap: settings?.dailyCap ?? null,
  };
}

/**
 * The pace at which an account sends a campaign: the slower of both in every respect. Use it for {@link nextAfter} and to show a pace.
 * The daily budgets of the account are not in it.
 */
export function tighten(account: PacingSettings, campaign: CampaignPace): CampaignPace {
  if (!account.enabled) return campaign;
  const { gapSeconds, burst, jitter } = account;
  const gap = varied(gapSeconds.campaign, gapSeconds.campaign, jitter);
  const pause = varied(burst.pauseSeconds, burst.pauseSeconds, jitter);
  return {
    gapSeconds: slower(gap, campaign.gapSeconds),
    batch: {
      size: Math.min(burst.size, campaign.batch?.size ?? Infinity),
      pauseSeconds: campaign.batch ? slower(pause, campaign.batch.pauseSeconds) : pause,
    },
    dailyCap: campaign.dailyCap,
  };
}

/**
 * The state after an account has sent a message of the campaign: `nextAt` is the earliest time of its next one.
 * @param random from 0 to 1, as `Math.random`
 */
export function nextAfter(
  state: CampaignPaceState,
  pace: CampaignPace,
  { now, random }: { now: number; random: number },
): CampaignPaceState {
  const { gapSeconds, batch, dailyCap } = pace;
  const today = dayOf(now);
  const sentToday = (state.day === today ? state.sentToday : 0) + 1;
  // So long a time without messages was a pause.
  const hasPaused =
    batch !== null && state.lastSentAt !== null && now - state.lastSentAt >= batch.pauseSeconds.to * 1000;
  const batchSent = (hasPaused ? 0 : state.batchSent) + 1;
  const pauses = batch !== null && batchSent >= batch.size;
  const wait = Math.max(at(gapSeconds, random), pauses ? at(batch.pauseSeconds, random) : 0);
  const next = Math.round(now + wait * 1000);
  return {
    day: today,
    sentToday,
    batchSent: pauses ? 0 : batchSent,
    lastSentAt: now,
    nextAt: dailyCap !== null && sentToday >= dailyCap ? Math.max(next, nextMidnight(now)) : next,
  };
}

/** How many seconds a message takes on average, with its part of the pauses. */
export function secondsPerMessage({ gapSeconds, batch }: CampaignPace): number {
  const gap = at(gapSeconds, 0.5);
  if (batch === null) return gap;
  return ((batch.size - 1) * gap + Math.max(gap, at(batch.pauseSeconds, 0.5))) / batch.size;
}

function varied(from: number, to: number, jitter: number): Range {
  return { from: from * (1 - jitter), to: to * (1 + jitter) };
}

function slower(one: Range, other: Range): Range {
  return { from: Math.max(one.from, other.from), to: Math.max(one.to, other.to) };
}

function at({ from, to }: Range, random: number): number {
  return from + (to - from) * random;
}
