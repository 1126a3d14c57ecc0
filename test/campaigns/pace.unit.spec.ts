import 'reflect-metadata';
import { validate } from 'class-validator';
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { CampaignPacingDto, SendingTimesDto } from '../../src/campaigns/campaign-pacing.dto.js';
import { estimate, type EstimatedAccount, type EstimateInput } from '../../src/campaigns/estimate.js';
import {
  type CampaignPace,
  campaignPaceOf,
  newCampaignPaceState,
  nextAfter,
  noPace,
  pacePresetNames,
  pacePresets,
  secondsPerMessage,
  tighten,
} from '../../src/campaigns/pace.js';
import { compileSendingTimes, zonesOf } from '../../src/campaigns/sending-windows.js';
import { afterSend, effectivePacing, newPacingState, type PacingSettings } from '../../src/pacing/pacing.js';
import { type FieldError, ValidationFailed } from '../../src/platform/errors/problem.js';
import { fieldErrors, toDto } from '../../src/platform/http/validation.js';

const dayMs = 86_400_000;
const start = Date.parse('2026-12-01T00:00:00Z');
const live = effectivePacing(true, null, null);
const unpaced = effectivePacing(false, null, null);

/** When each of so many messages leaves, if nothing else holds them back. */
function timesOf(pace: CampaignPace, count: number, random: () => number, from = start): number[] {
  let state = newCampaignPaceState;
  return Array.from({ length: count }, () => {
    const now = Math.max(from, state.nextAt);
    state = nextAfter(state, pace, { now, random: random() });
    return now;
  });
}

function waitsOf(times: number[]): number[] {
  return times.slice(1).map((time, index) => (time - times[index]!) / 1000);
}

describe('the pace of a campaign', () => {
  it('is that of its preset, a quarter shorter or longer', () => {
    const bounds = {
      paranoid: [67.5, 150, 10, 225, 375],
      safe: [33.75, 75, 20, 135, 225],
      balanced: [22.5, 56.25, 25, 112.5, 187.5],
      fast: [15, 37.5, 30, 90, 150],
      aggressive: [7.5, 25, 40, 67.5, 112.5],
    };
    for (const preset of pacePresetNames) {
      const [least, most, size, shortest, longest] = bounds[preset] as [
        number,
        number,
        number,
        number,
        number,
      ];
      const waits = waitsOf(timesOf(campaignPaceOf({ preset }), 400, Math.random));
      waits.forEach((wait, index) => {
        const pauses = (index + 1) % size === 0;
        expect(wait).toBeGreaterThanOrEqual((pauses ? shortest : least) - 0.001);
        expect(wait).toBeLessThanOrEqual(Math.max(pauses ? longest : most, most) + 0.001);
      });
      const average = secondsPerMessage(campaignPaceOf({ preset }));
      expect(waits.reduce((sum, wait) => sum + wait, 0) / waits.length / average).toBeCloseTo(1, 0.5);
    }
  });

  it('is the one that the docs name', () => {
    const page = readFileSync(new URL('../../docs/campaign-rules.md', import.meta.url), 'utf8');
    const rows = [...page.matchAll(/^\| `(\w+)` +\| (\d+) to (\d+) +\| (\d+) +\| (\d+) +\|$/gm)].map(
      ([, name, from, to, size, pauseSeconds]) => [
        name,
        {
          gapSeconds: { from: Number(from), to: Number(to) },
          batch: { size: Number(size), pauseSeconds: Number(pauseSeconds) },
        },
      ],
    );
    expect(Object.fromEntries(rows)).toEqual(pacePresets);
  });

  it('has its own values in place of those of the preset', () => {
    const pace = campaignPaceOf({ preset: 'safe', gapSeconds: { from: 10, to: 10 }, jitter: 0, dailyCap: 5 });
    expect(pace).toEqual({
      gapSeconds: { from: 10, to: 10 },
      batch: { size: 20, pauseSeconds: { from: 180, to: 180 } },
      dailyCap: 5,
    });
    expect(campaignPaceOf(null)).toEqual(noPace);
    expect(campaignPaceOf({})).toEqual(noPace);
  });

  it('stops at the cap of the day until midnight UTC', () => {
    const times = timesOf(
      campaignPaceOf({ dailyCap: 3, gapSeconds: { from: 10, to: 10 }, jitter: 0 }),
      7,
      () => 0,
    );
    expect(times.map((time) => (time - start) / 1000)).toEqual([0, 10, 20, 86_400, 86_410, 86_420, 172_800]);
  });

  it('counts a long time without messages as a pause', () => {
    const pace = campaignPaceOf({
      batch: { size: 2, pauseSeconds: 100 },
      gapSeconds: { from: 1, to: 1 },
      jitter: 0.5,
    });
    const first = nextAfter(newCampaignPaceState, pace, { now: start, random: 0.5 });
    expect(nextAfter(first, pace, { now: start + 149_999, random: 0.5 }).nextAt).toBe(start + 249_999);
    expect(nextAfter(first, pace, { now: start + 150_000, random: 0.5 }).nextAt).toBe(start + 151_000);
  });
});

const seconds = fc.integer({ min: 0, max: 1_000 });
const paces: fc.Arbitrary<CampaignPace> = fc
  .record({
    gapSeconds: fc
      .tuple(seconds, seconds)
      .map(([one, other]) => ({ from: Math.min(one, other), to: Math.max(one, other) })),
    jitter: fc.double({ min: 0, max: 1, noNaN: true }),
    batch: fc.option(fc.record({ size: fc.integer({ min: 1, max: 10 }), pauseSeconds: seconds }), {
      nil: undefined,
    }),
    dailyCap: fc.option(fc.integer({ min: 1, max: 20 }), { nil: undefined }),
  })
  .map(campaignPaceOf);
const accounts: fc.Arbitrary<PacingSettings> = fc
  .record({
    gap: seconds,
    jitter: fc.double({ min: 0, max: 1, noNaN: true }),
    size: fc.integer({ min: 1, max: 10 }),
    pauseSeconds: seconds,
    enabled: fc.boolean(),
  })
  .map(({ gap, jitter, size, pauseSeconds, enabled }) => ({
    ...live,
    enabled,
    gapSeconds: { ...live.gapSeconds, campaign: gap },
    jitter,
    burst: { size, pauseSeconds },
  }));
const randoms = fc.double({ min: 0, max: 1, noNaN: true });

describe('a campaign only ever makes an account slower', () => {
  it('message by message, than the campaign and than the account alone', () => {
    fc.assert(
      fc.property(accounts, paces, randoms, (account, pace, random) => {
        const tightened = timesOf(tighten(account, pace), 40, () => random);
        const alone = timesOf(pace, 40, () => random);
        tightened.forEach((time, index) => expect(time).toBeGreaterThanOrEqual(alone[index]! - index));
        if (!account.enabled) return;
        let state = newPacingState;
        for (const [index, time] of tightened.entries()) {
          const now = Math.max(start, state.nextSendAt[0]!);
          expect(time).toBeGreaterThanOrEqual(now - index);
          state = afterSend(state, account, { priority: 'campaign', isCold: false, now, random });
        }
      }),
    );
  });

  it('never less than nothing, and never back in time', () => {
    fc.assert(
      fc.property(
        paces,
        fc.array(fc.tuple(randoms, fc.integer({ min: 0, max: dayMs })), { maxLength: 50 }),
        (pace, steps) => {
          let state = newCampaignPaceState;
          const sent = new Map<string, number>();
          for (const [random, late] of steps) {
            const now = Math.max(start, state.nextAt) + late;
            state = nextAfter(state, pace, { now, random });
            expect(state.nextAt).toBeGreaterThanOrEqual(now);
            const day = new Date(now).toISOString().slice(0, 10);
            sent.set(day, (sent.get(day) ?? 0) + 1);
          }
          if (pace.dailyCap !== null)
            for (const count of sent.values()) expect(count).toBeLessThanOrEqual(pace.dailyCap);
        },
      ),
    );
  });

  it('leaves an account without pacing to the campaign', () => {
    expect(tighten(unpaced, campaignPaceOf({ preset: 'fast' }))).toEqual(campaignPaceOf({ preset: 'fast' }));
    expect(tighten(live, campaignPaceOf({ preset: 'aggressive' }))).toEqual(tighten(live, noPace));
  });
});

describe('the estimate', () => {
  const account = (
    id: string,
    settings = live,
    changes: Partial<EstimatedAccount> = {},
  ): EstimatedAccount => ({
    id,
    settings,
    state: { ...newPacingState, warmUpFrom: '2026-01-01' },
    ...changes,
  });
  const asked = (changes: Partial<EstimateInput>) =>
    estimate({
      recipients: [{ zoneKey: 'SG', cold: 1_000, replies: 0 }],
      accounts: [account('a'), account('b')],
      pace: noPace,
      plan: compileSendingTimes({}),
      start: new Date(start),
      sendSeconds: 0.5,
      ...changes,
    });
  const hoursOf = (end: Date | null) => (end!.getTime() - start) / 3_600_000;

  it('spends the budget of a day, then waits for the next one', () => {
    const found = asked({});
    // 250 for each account and day.
    expect(hoursOf(found.end)).toBeGreaterThan(24);
    expect(hoursOf(found.end)).toBeLessThan(30);
    expect(found.budgetDays).toBe(4);
    expect(found.accounts).toEqual([
      { accountId: 'a', messages: 500, end: found.end, budgetDays: 2 },
      { accountId: 'b', messages: 500, end: found.end, budgetDays: 2 },
    ]);
  });

  it('is the sum of the waits within a day', () => {
    const { end } = asked({
      recipients: [{ zoneKey: 'SG', cold: 100, replies: 0 }],
      accounts: [account('a')],
    });
    const expected = 99 * secondsPerMessage(tighten(live, noPace));
    expect(Math.abs((end!.getTime() - start) / 1000 - expected)).toBeLessThan(2);
  });

  it('agrees with the times of messages that are sent one by one', () => {
    const pace = campaignPaceOf({ preset: 'paranoid', dailyCap: 200 });
    const { end } = asked({
      recipients: [{ zoneKey: 'SG', cold: 0, replies: 900 }],
      accounts: [account('a')],
      pace,
    });
    const sent = timesOf(tighten(live, pace), 900, () => 0.5).at(-1)!;
    expect(Math.abs(end!.getTime() - sent) / (sent - start)).toBeLessThan(0.01);
  });

  it('grows with the warm-up, and counts what was sent today', () => {
    const fresh = asked({ accounts: [account('a', live, { state: newPacingState })] });
    // 25, 41, 57, 73, … cold messages a day: 970 in ten days.
    expect(Math.floor(hoursOf(fresh.end) / 24)).toBe(10);
    const used = asked({
      recipients: [{ zoneKey: 'SG', cold: 10, replies: 0 }],
      accounts: [
        account('a', live, {
          state: {
            ...newPacingState,
            warmUpFrom: '2026-01-01',
            day: '2026-12-01',
            sent: { cold: 250, replies: 0 },
          },
        }),
      ],
    });
    expect(hoursOf(used.end)).toBeGreaterThanOrEqual(24);
  });

  it('sends only inside the windows of each country', () => {
    const plan = compileSendingTimes({ windows: [{ from: '09:00', to: '10:00' }] });
    const { end, neverAllowed } = asked({
      plan,
      accounts: [account('a', unpaced)],
      sendSeconds: 36,
      recipients: [
        { zoneKey: 'SG', cold: 150, replies: 0 },
        { zoneKey: 'DE', cold: 10, replies: 20 },
        { zoneKey: 'RU', cold: 7, replies: 0 },
      ],
    });
    // 100 at 01:00 UTC, 30 at 08:00, and 50 on the next day at 01:00.
    expect(Math.abs(hoursOf(end) - 25.5)).toBeLessThan(0.02);
    expect(neverAllowed).toEqual([{ zoneKey: 'RU', recipients: 7 }]);
  });

  it('keeps the gap and the cap of the day from one window to the next', () => {
    const input = {
      plan: compileSendingTimes({ windows: [{ from: '09:00', to: '10:00' }] }),
      accounts: [account('a', unpaced)],
      sendSeconds: 3_000,
      // One opens at 01:00 UTC, the other at 02:00.
      recipients: [
        { zoneKey: 'SG', cold: 2, replies: 0 },
        { zoneKey: 'TH', cold: 1, replies: 0 },
      ],
    };
    expect(Math.abs(hoursOf(asked(input).end) - 2 - 40 / 60)).toBeLessThan(0.001);
    const capped = asked({ ...input, pace: campaignPaceOf({ dailyCap: 2 }) });
    expect(Math.abs(hoursOf(capped.end) - 26)).toBeLessThan(0.001);
  });

  it('waits for an account that may not send yet', () => {
    const {
      end,
      accounts: [first],
    } = asked({
      recipients: [{ zoneKey: 'SG', cold: 1, replies: 0 }],
      accounts: [
        account('a', live, { notBefore: new Date(start + 5_000) }),
        account('b', live, { notBefore: new Date(start + 9_000) }),
      ],
    });
    expect(end).toEqual(new Date(start + 5_000));
    expect(first).toMatchObject({ messages: 1, end });
  });

  it('is never if nothing can be sent', () => {
    expect(asked({ accounts: [] }).end).toBeNull();
    const closed = effectivePacing(true, null, { dailyBudget: { cold: 0 } });
    expect(asked({ accounts: [account('a', closed)] })).toMatchObject({
      end: null,
      accounts: [{ messages: 0, end: null }],
    });
    const some = asked({
      recipients: [{ zoneKey: 'SG', cold: 1, replies: 500 }],
      accounts: [account('a', closed)],
    });
    expect(some).toMatchObject({ end: null, budgetDays: 0.25, accounts: [{ messages: 500, end: null }] });
    expect(asked({ recipients: [] }).end).toEqual(new Date(start));
  });

  it('of a million recipients with one account is some years, found at once', () => {
    const began = performance.now();
    const {
      end,
      budgetDays,
      accounts: [only],
    } = asked({ recipients: [{ zoneKey: 'SG', cold: 1_000_000, replies: 0 }], accounts: [account('a')] });
    expect(hoursOf(end) / 24).toBeGreaterThan(3_990);
    expect(hoursOf(end) / 24).toBeLessThan(4_010);
    expect(Math.round(budgetDays)).toBe(4_000);
    expect(only!.messages).toBe(1_000_000);
    expect(performance.now() - began).toBeLessThan(2_000);
  });

  it('of a thousand accounts and all countries is found in bounded time', () => {
    const countries =
      'ID SG MY DE FR GB ES PT IN BR US CA MX AU RU SA AE EG ZA NG KE JP KR TH VN PH TR IT NL PL SE NO'.split(
        ' ',
      );
    expect(countries.every((country) => zonesOf(country).length > 0)).toBe(true);
    const began = performance.now();
    const { end, accounts: all } = asked({
      recipients: countries.map((zoneKey) => ({ zoneKey, cold: 300_000, replies: 10_000 })),
      accounts: Array.from({ length: 1_000 }, (_, n) => account(`${n}`)),
      plan: compileSendingTimes({ quietHours: { from: '21:00', to: '08:00' } }),
    });
    expect(end).not.toBeNull();
    expect(all.reduce((sum, { messages }) => sum + messages, 0)).toBeGreaterThan(9_900_000);
    expect(performance.now() - began).toBeLessThan(10_000);
  });

  it('sends every recipient exactly once, and each account within its budgets', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            zoneKey: fc.constantFrom('SG', 'ID', 'DE', 'US', 'ZZ'),
            cold: fc.nat(500),
            replies: fc.nat(500),
          }),
          { maxLength: 4 },
        ),
        fc.array(fc.boolean(), { minLength: 1, maxLength: 4 }),
        paces,
        (recipients, paced, pace) => {
          const found = asked({
            recipients,
            accounts: paced.map((isPaced, index) => account(`${index}`, isPaced ? live : unpaced)),
            pace,
            plan: compileSendingTimes({ quietHours: { from: '20:00', to: '09:00' } }),
          });
          const total = recipients.reduce((sum, { cold, replies }) => sum + cold + replies, 0);
          const sent = found.accounts.reduce((sum, { messages }) => sum + messages, 0);
          expect(Math.abs(sent - total)).toBeLessThanOrEqual(found.accounts.length);
          expect(found.end!.getTime()).toBeGreaterThanOrEqual(start);
          for (const { end } of found.accounts)
            if (end) expect(end.getTime()).toBeLessThanOrEqual(found.end!.getTime());
        },
      ),
      { numRuns: 40 },
    );
  });
});

describe('the settings of a request', () => {
  const texts = (errors: FieldError[]) => errors.map(({ path, message }) => `${path} ${message}`);
  const errorsOf = async (dto: new () => object, plain: unknown) => {
    try {
      const found = await validate(toDto(dto, plain), {
        whitelist: true,
        forbidNonWhitelisted: true,
        stopAtFirstError: true,
      });
      return texts(found.flatMap((error) => fieldErrors(error)));
    } catch (error) {
      // Sizes are checked first.
      if (error instanceof ValidationFailed) return texts(error.errors!);
      throw error;
    }
  };

  it('may have a gap as a number or a range', async () => {
    for (const gapSeconds of [30, { from: 30, to: 30 }])
      expect(campaignPaceOf(toDto(CampaignPacingDto, { gapSeconds, jitter: 0 })).gapSeconds).toEqual({
        from: 30,
        to: 30,
      });
    expect(
      await errorsOf(CampaignPacingDto, {
        preset: 'safe',
        gapSeconds: null,
        jitter: null,
        batch: { size: 1, pauseSeconds: 0 },
        dailyCap: null,
      }),
    ).toEqual([]);
    expect(
      await errorsOf(SendingTimesDto, {
        windows: [
          { days: ['mon'], from: '09:00', to: '24:00' },
          { from: '22:00', to: '02:00' },
        ],
        quietHours: { from: '00:00', to: '01:00' },
        timeZone: 'recipient',
      }),
    ).toEqual([]);
  });

  it.each<[new () => object, unknown, RegExp]>([
    [CampaignPacingDto, { preset: 'turbo' }, /^preset preset must be one of .*paranoid/],
    [CampaignPacingDto, { gapSeconds: 'x' }, /^gapSeconds must be a number of seconds, or a range/],
    [CampaignPacingDto, { gapSeconds: -1 }, /^gapSeconds\.(from|to) \1 must not be less than 0/],
    [CampaignPacingDto, { gapSeconds: { from: 60, to: 45 } }, /^gapSeconds\.to must be at least from/],
    [CampaignPacingDto, { gapSeconds: { from: 1 } }, /^gapSeconds\.to to must be a number/],
    [CampaignPacingDto, { batch: { size: 0, pauseSeconds: 1 } }, /^batch\.size size must not be less than 1/],
    [CampaignPacingDto, { batch: { size: 1 } }, /^batch\.pauseSeconds pauseSeconds must be a number/],
    [CampaignPacingDto, { dailyCap: 0 }, /^dailyCap dailyCap must not be less than 1/],
    [CampaignPacingDto, { speed: 1 }, /^speed unknown field/],
    [SendingTimesDto, { windows: [] }, /^windows windows must contain at least 1/],
    [
      SendingTimesDto,
      { windows: [{ days: ['someday'], from: '09:00', to: '10:00' }] },
      /^windows\.0\.days each value in days must be one of .*mon/,
    ],
    [
      SendingTimesDto,
      { windows: [{ from: '9', to: '10:00' }] },
      /^windows\.0\.from must be a time of the day as HH:MM/,
    ],
    [SendingTimesDto, { quietHours: { from: '21:00' } }, /^quietHours\.to must be a time of the day/],
    [SendingTimesDto, { timeZone: 'Jakarta' }, /^timeZone must be recipient, or the IANA name/],
  ])('that are wrong are refused with the cure: %o %j', async (dto, plain, message) => {
    const errors = await errorsOf(dto, plain);
    expect(errors).not.toEqual([]);
    for (const error of errors) expect(error).toMatch(message);
  });
});
