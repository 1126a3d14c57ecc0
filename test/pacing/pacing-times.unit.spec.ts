import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  afterSend,
  budgetsOf,
  closedUntil,
  dayOf,
  effectivePacing,
  newPacingState,
  nextMidnight,
  type PacingSettings,
  type PacingState,
  typingMsFor,
  limitWaits,
  warmUpDay,
} from '../../src/pacing/pacing.js';
import { priorities, type Priority } from '../../src/queues/priorities.js';

const dayMs = 86_400_000;
const noon = Date.parse('2026-03-01T12:00:00Z');

const live = effectivePacing(true, null, null);

const seconds = fc.double({ min: 0, max: 86_400, noNaN: true });
/** Settings that their DTO accepts, with longer gaps for less urgent priorities. */
const settings: fc.Arbitrary<PacingSettings> = fc
  .record({
    gaps: fc.tuple(seconds, seconds, seconds, seconds),
    jitter: fc.double({ min: 0, max: 1, noNaN: true }),
    size: fc.integer({ min: 1, max: 50 }),
    pauseSeconds: seconds,
    cold: fc.integer({ min: 0, max: 1_000 }),
    replies: fc.integer({ min: 0, max: 1_000 }),
    days: fc.integer({ min: 0, max: 60 }),
    startPercent: fc.integer({ min: 1, max: 100 }),
  })
  .map(({ gaps, jitter, size, pauseSeconds, cold, replies, days, startPercent }) => {
    const [urgent, high, normal, campaign] = [...gaps].sort((a, b) => a - b) as [
      number,
      number,
      number,
      number,
    ];
    return {
      ...live,
      gapSeconds: { urgent, high, normal, campaign },
      jitter,
      burst: { size, pauseSeconds },
      dailyBudget: { cold, replies },
      warmUp: { days, startPercent },
    };
  });
const message = fc.record({
  priority: fc.constantFrom(...priorities),
  isCold: fc.boolean(),
  random: fc.double({ min: 0, max: 1, noNaN: true }),
  /** How long after the time when it may leave. */
  lateMs: fc.integer({ min: 0, max: 2 * dayMs }),
});
type Message = typeof message extends fc.Arbitrary<infer Value> ? Value : never;

interface Sent extends Message {
  at: number;
  state: PacingState;
}

/** Sends each message when its priority may leave, or later. */
function sendAll(messages: Message[], used: PacingSettings, from = noon): Sent[] {
  let state = newPacingState;
  let now = from;
  return messages.map((sent) => {
    const number = priorities.indexOf(sent.priority);
    now = Math.max(now, state.nextSendAt[number]!) + sent.lateMs;
    state = afterSend(state, used, { ...sent, now });
    return { ...sent, at: now, state };
  });
}

describe('the settings of an account', () => {
  it('are the defaults: on for live accounts and off for sandbox accounts', () => {
    expect(live.enabled).toBe(true);
    expect(effectivePacing(false, null, null)).toEqual({ ...live, enabled: false });
  });

  it('come from the account, then the workspace, then the defaults, separately for each field', () => {
    const mixed = effectivePacing(
      false,
      { enabled: true, gapSeconds: { normal: 3, high: 1 }, coldPause: { afterRefusals: 4 } },
      { gapSeconds: { normal: 7, urgent: undefined }, jitter: 0, typing: undefined },
    );
    expect(mixed).toEqual({
      ...live,
      enabled: true,
      gapSeconds: { ...live.gapSeconds, normal: 7, high: 1 },
      jitter: 0,
      coldPause: { ...live.coldPause, afterRefusals: 4 },
    });
  });

  it('are complete, whatever fields are missing', () => {
    const field = fc.option(fc.integer({ min: 0, max: 9 }), { nil: undefined });
    const layer = fc.option(
      fc.record(
        {
          gapSeconds: fc.record(
            { urgent: field, high: field, normal: field, campaign: field },
            { requiredKeys: [] },
          ),
          dailyBudget: fc.record({ cold: field, replies: field }, { requiredKeys: [] }),
          enabled: fc.boolean(),
        },
        { requiredKeys: [] },
      ),
    );
    fc.assert(
      fc.property(layer, layer, (workspace, own) => {
        const merged = effectivePacing(true, workspace, own);
        for (const priority of priorities) {
          expect(merged.gapSeconds[priority]).toBe(
            own?.gapSeconds?.[priority] ?? workspace?.gapSeconds?.[priority] ?? live.gapSeconds[priority],
          );
        }
        expect(merged.dailyBudget.cold).toBe(
          own?.dailyBudget?.cold ?? workspace?.dailyBudget?.cold ?? live.dailyBudget.cold,
        );
        expect(merged.enabled).toBe(own?.enabled ?? workspace?.enabled ?? true);
      }),
    );
  });
});

describe('gaps', () => {
  it('are between the setting minus the jitter and the setting plus the jitter', () => {
    fc.assert(
      fc.property(settings, message, (used, sent) => {
        const state = afterSend(
          newPacingState,
          { ...used, burst: { size: 2, pauseSeconds: 0 } },
          { ...sent, now: noon },
        );
        const gapMs = used.gapSeconds[sent.priority] * 1000;
        const wait = state.nextSendAt[priorities.indexOf(sent.priority)]! - noon;
        expect(wait).toBeGreaterThanOrEqual(Math.floor(gapMs * (1 - used.jitter)));
        expect(wait).toBeLessThanOrEqual(Math.ceil(gapMs * (1 + used.jitter)));
      }),
    );
  });

  it('use the whole range of the jitter', () => {
    const at = (random: number) =>
      afterSend(newPacingState, live, { priority: 'campaign', isCold: true, now: 0, random }).nextSendAt[0];
    expect([at(0), at(0.5), at(1)]).toEqual([39_000, 52_000, 65_000]);
  });

  it('are never in the past, and a more urgent message never waits longer', () => {
    fc.assert(
      fc.property(settings, fc.array(message, { maxLength: 60 }), (used, messages) => {
        for (const { at, state, priority } of sendAll(messages, used)) {
          const times = priorities.map((_name, number) => state.nextSendAt[number]!);
          expect(times[priorities.indexOf(priority)]).toBeGreaterThanOrEqual(at);
          expect(times.every((time) => time >= at)).toBe(true);
          expect([...times].sort((a, b) => b - a)).toEqual(times);
        }
      }),
    );
  });

  it('of campaigns do not restart after a more urgent message', () => {
    const campaign = afterSend(newPacingState, live, {
      priority: 'campaign',
      isCold: true,
      now: noon,
      random: 0.5,
    });
    let state = campaign;
    for (let second = 5; second <= 50; second += 5) {
      state = afterSend(state, live, {
        priority: 'normal',
        isCold: false,
        now: noon + second * 1000,
        random: 0.5,
      });
    }
    // Only the last of these messages is too close to the next campaign message.
    expect(state.nextSendAt[0]).toBe(noon + 55_000);
  });
});

describe('bursts', () => {
  it('end in a pause after the set number of messages, and start again after it', () => {
    const used = { ...live, jitter: 0, burst: { size: 4, pauseSeconds: 180 } };
    const everySecond = Array.from({ length: 9 }, () => ({
      priority: 'campaign' as const,
      isCold: true,
      random: 0.5,
      lateMs: 0,
    }));
    const gaps = sendAll(everySecond, used).map(({ at, state }) => (state.nextSendAt[0]! - at) / 1000);
    expect(gaps).toEqual([52, 52, 52, 180, 52, 52, 52, 180, 52]);
  });

  it('end after a time without messages that is as long as the pause', () => {
    const used = { ...live, burst: { size: 2, pauseSeconds: 180 } };
    const one = afterSend(newPacingState, used, {
      priority: 'normal',
      isCold: false,
      now: noon,
      random: 0.5,
    });
    const send = (afterMs: number) =>
      afterSend(one, used, { priority: 'normal', isCold: false, now: noon + afterMs, random: 0.5 });
    expect(send(179_000).nextSendAt[1]! - noon).toBe(179_000 + 180_000);
    expect(send(180_000).nextSendAt[1]! - noon).toBe(180_000 + 5_000);
  });

  it('neither count nor delay urgent and high messages', () => {
    fc.assert(
      fc.property(settings, fc.array(message, { maxLength: 60 }), (used, messages) => {
        for (const { at, state } of sendAll(messages, used)) {
          for (const priority of ['high', 'urgent'] as Priority[]) {
            const longest = used.gapSeconds[priority] * (1 + used.jitter) * 1000;
            expect(state.nextSendAt[priorities.indexOf(priority)]! - at).toBeLessThanOrEqual(
              Math.ceil(longest),
            );
          }
          expect(state.burstSent).toBeLessThan(used.burst.size);
        }
      }),
    );
  });
});

describe('budgets', () => {
  it('count the messages of today, separately for each kind, and are never negative', () => {
    fc.assert(
      fc.property(settings, fc.array(message, { minLength: 1, maxLength: 60 }), (used, messages) => {
        const sent = sendAll(messages, used);
        const { at, state } = sent.at(-1)!;
        const today = sent.filter((other) => dayOf(other.at) === dayOf(at));
        const budgets = budgetsOf(state, used, at);
        expect(budgets.cold.used).toBe(today.filter(({ isCold }) => isCold).length);
        expect(budgets.replies.used).toBe(today.filter(({ isCold }) => !isCold).length);
        const closed = closedUntil(state, used, at);
        for (const kind of ['cold', 'replies'] as const) {
          expect(budgets[kind].left).toBe(Math.max(0, budgets[kind].limit - budgets[kind].used));
          expect(budgets[kind].limit > 0).toBe(used.dailyBudget[kind] > 0);
          expect(closed[kind] === null).toBe(budgets[kind].left > 0);
          expect(closedUntil(state, used, nextMidnight(at))[kind]).toBe(
            used.dailyBudget[kind] === 0 ? Infinity : null,
          );
        }
      }),
    );
  });

  it('start again at midnight in UTC', () => {
    const evening = Date.parse('2026-02-28T23:59:59.999Z');
    expect(new Date(nextMidnight(evening)).toISOString()).toBe('2026-03-01T00:00:00.000Z');
    expect(nextMidnight(evening + 1)).toBe(evening + 1 + dayMs);
    const used = { ...live, dailyBudget: { cold: 1, replies: 1 } };
    const state = afterSend(newPacingState, used, {
      priority: 'urgent',
      isCold: true,
      now: evening,
      random: 0,
    });
    expect(closedUntil(state, used, evening)).toEqual({ cold: evening + 1, replies: null });
    expect(budgetsOf(state, used, evening + 1).cold).toEqual({ limit: 1, used: 0, left: 1 });
    expect(
      afterSend(state, used, { priority: 'urgent', isCold: false, now: evening + 1, random: 0 }).sent,
    ).toEqual({
      cold: 0,
      replies: 1,
    });
  });
});

describe('warm-up', () => {
  it('raises the budget every day, from the start percentage to the full budget', () => {
    fc.assert(
      fc.property(settings, (used) => {
        const state = { ...newPacingState, warmUpFrom: dayOf(noon) };
        let before = 0;
        for (let day = 1; day <= used.warmUp.days + 2; day += 1) {
          const now = noon + (day - 1) * dayMs;
          const { limit } = budgetsOf(state, used, now).cold;
          expect(warmUpDay(state, used, now)).toBe(day > used.warmUp.days ? null : day);
          expect(limit).toBeGreaterThanOrEqual(before);
          expect(limit).toBeLessThanOrEqual(used.dailyBudget.cold);
          before = limit;
        }
        expect(before).toBe(used.dailyBudget.cold);
      }),
    );
  });

  it('by default starts with a tenth and takes 14 days', () => {
    const state = { ...newPacingState, warmUpFrom: dayOf(noon) };
    const limits = Array.from(
      { length: 15 },
      (_day, index) => budgetsOf(state, live, noon + index * dayMs).cold.limit,
    );
    expect([limits[0], limits[1], limits[7], limits[13], limits[14]]).toEqual([25, 41, 137, 233, 250]);
  });

  it('stays at its first day when the clock is set back', () => {
    const state = { ...newPacingState, warmUpFrom: dayOf(noon + dayMs) };
    expect(warmUpDay(state, live, noon)).toBe(1);
  });
});

it('after a change of settings, no message waits longer than the new settings allow', () => {
  fc.assert(
    fc.property(
      settings,
      settings,
      fc.array(message, { minLength: 1, maxLength: 20 }),
      (old, used, messages) => {
        const { at, state } = sendAll(messages, old).at(-1)!;
        const changed = limitWaits(state, used, at);
        for (const [number, priority] of priorities.entries()) {
          const held = number < 2 ? used.burst.pauseSeconds : 0;
          const longest = Math.max(used.gapSeconds[priority], held) * (1 + used.jitter) * 1000;
          expect(changed.nextSendAt[number]! - at).toBeLessThanOrEqual(Math.ceil(longest));
          expect(changed.nextSendAt[number]!).toBeLessThanOrEqual(state.nextSendAt[number]!);
        }
        expect({ ...changed, nextSendAt: [] }).toEqual({ ...state, nextSendAt: [] });
      },
    ),
  );
});

it('typing takes 1 to 3 seconds, longer for a longer text', () => {
  fc.assert(
    fc.property(
      fc.string({ maxLength: 5_000 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (text, random) => {
        const ms = typingMsFor(text, random);
        expect(ms).toBeGreaterThanOrEqual(1_000);
        expect(ms).toBeLessThanOrEqual(3_000);
        expect(typingMsFor(`${text} and more`, random)).toBeGreaterThanOrEqual(ms);
      },
    ),
  );
});
