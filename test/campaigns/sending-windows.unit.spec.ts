import fc from 'fast-check';
import { DateTime } from 'luxon';
import { describe, expect, it } from 'vitest';
import {
  allowedUntil,
  compileSendingTimes,
  days,
  isTimeZone,
  neverAllowedHint,
  nextAllowed,
  type SendingTimes,
  type SendingWindow,
  zoneKeyOf,
  zonesOf,
} from '../../src/campaigns/sending-windows.js';
import { ValidationFailed } from '../../src/platform/errors/problem.js';

const next = (key: string, times: SendingTimes, at: string, workspaceZone?: string) =>
  nextAllowed(key, compileSendingTimes(times, { workspaceZone }), new Date(at))?.toISOString() ?? null;
const until = (key: string, times: SendingTimes, at: string) =>
  allowedUntil(key, compileSendingTimes(times), new Date(at))?.toISOString() ?? null;

const office: SendingTimes = {
  windows: [{ days: ['mon', 'tue', 'wed', 'thu', 'fri'], from: '09:00', to: '17:00' }],
};
const berlin = { timeZone: 'Europe/Berlin' };

describe('a message leaves', () => {
  it.each<[string, string, SendingTimes, string, string]>([
    ['at once without times', 'ID', {}, '2026-12-01T03:00:00.123Z', '2026-12-01T03:00:00.123Z'],
    ['at once inside a window', 'SG', office, '2026-12-01T01:00:00.000Z', '2026-12-01T01:00:00.000Z'],
    ['when the window opens', 'SG', office, '2026-12-01T00:59:59.999Z', '2026-12-01T01:00:00.000Z'],
    [
      'on the next day after the window',
      'SG',
      office,
      '2026-12-01T09:00:00.000Z',
      '2026-12-02T01:00:00.000Z',
    ],
    ['on Monday after the weekend', 'SG', office, '2026-12-05T03:00:00.000Z', '2026-12-07T01:00:00.000Z'],
    [
      'after the quiet hours',
      'SG',
      { quietHours: { from: '21:00', to: '08:00' } },
      '2026-12-01T13:00:00Z',
      '2026-12-02T00:00:00.000Z',
    ],
    [
      'in a window over midnight',
      'SG',
      { windows: [{ days: ['sun'], from: '22:00', to: '02:00' }] },
      '2026-12-01T00:00:00Z',
      '2026-12-06T14:00:00.000Z',
    ],
    [
      'on the morning after it',
      'SG',
      { windows: [{ days: ['sun'], from: '22:00', to: '02:00' }] },
      '2026-12-06T17:30:00Z',
      '2026-12-06T17:30:00.000Z',
    ],
    [
      'by the clock of the campaign',
      'SG',
      { ...office, ...berlin },
      '2026-12-01T01:00:00Z',
      '2026-12-01T08:00:00.000Z',
    ],
    ['when all of Indonesia is awake', 'ID', office, '2026-12-01T00:00:00Z', '2026-12-01T02:00:00.000Z'],
    ['before a part of Indonesia sleeps', 'ID', office, '2026-12-01T08:00:00Z', '2026-12-02T02:00:00.000Z'],
  ])('%s', (_, key, times, at, expected) => {
    expect(next(key, times, at)).toBe(expected);
  });

  it('by the clock of the workspace if the recipient has no country', () => {
    expect(next('ZZ', office, '2026-12-01T00:00:00Z', 'Asia/Jakarta')).toBe('2026-12-01T02:00:00.000Z');
    expect(next('ZZ', office, '2026-12-01T00:00:00Z')).toBe('2026-12-01T09:00:00.000Z');
  });

  it('until the window closes', () => {
    expect(until('SG', office, '2026-12-01T01:00:00Z')).toBe('2026-12-01T09:00:00.000Z');
    expect(until('ID', office, '2026-12-01T02:00:00Z')).toBe('2026-12-01T08:00:00.000Z');
    expect(until('SG', office, '2026-12-01T00:00:00Z')).toBe('2026-12-01T00:00:00.000Z');
    expect(until('SG', {}, '2026-12-01T00:00:00Z')).toBeNull();
    expect(until('SG', { quietHours: { from: '00:00', to: '08:00' } }, '2026-12-01T03:00:00Z')).toBe(
      '2026-12-01T16:00:00.000Z',
    );
  });
});

describe('a change of the clocks', () => {
  const night: SendingTimes = { ...berlin, windows: [{ from: '02:30', to: '04:00' }] };
  it('moves the windows with the clock, in spring and in autumn', () => {
    const nine = { ...berlin, windows: [{ from: '09:00', to: '10:00' }] };
    expect(next('ZZ', nine, '2026-03-28T12:00:00Z')).toBe('2026-03-29T07:00:00.000Z');
    expect(next('ZZ', nine, '2026-10-24T12:00:00Z')).toBe('2026-10-25T08:00:00.000Z');
  });

  it('skips what never comes: on 29 March 2026, 02:00 to 03:00', () => {
    expect(next('ZZ', night, '2026-03-28T12:00:00Z')).toBe('2026-03-29T01:00:00.000Z');
    expect(until('ZZ', night, '2026-03-29T01:00:00Z')).toBe('2026-03-29T02:00:00.000Z');
    const skipped = { ...berlin, windows: [{ from: '02:15', to: '02:45' }] };
    expect(next('ZZ', skipped, '2026-03-28T12:00:00Z')).toBe('2026-03-30T00:15:00.000Z');
    expect(
      next(
        'ZZ',
        { ...berlin, windows: [{ days: ['sun'], from: '02:15', to: '02:45' }] },
        '2026-03-28T12:00:00Z',
      ),
    ).toBe('2026-04-05T00:15:00.000Z');
  });

  it('gives twice what comes twice: on 25 October 2026, 02:00 to 03:00', () => {
    const times = { ...berlin, windows: [{ from: '02:15', to: '02:45' }] };
    expect(next('ZZ', times, '2026-10-25T00:00:00Z')).toBe('2026-10-25T00:15:00.000Z');
    expect(until('ZZ', times, '2026-10-25T00:15:00Z')).toBe('2026-10-25T00:45:00.000Z');
    expect(next('ZZ', times, '2026-10-25T00:45:00Z')).toBe('2026-10-25T01:15:00.000Z');
    expect(until('ZZ', night, '2026-10-25T00:30:00Z')).toBe('2026-10-25T01:00:00.000Z');
  });

  it('is seen in the south, with half hours too', () => {
    // Lord Howe Island moves its clocks by half an hour.
    const times = { timeZone: 'Australia/Lord_Howe', windows: [{ from: '02:10', to: '02:20' }] };
    expect(next('ZZ', times, '2026-10-03T13:00:00Z')).toBe('2026-10-04T15:10:00.000Z');
  });
});

describe('a country with several zones', () => {
  it('has one clock for zones that are the same', () => {
    expect(zonesOf('ID')).toHaveLength(3);
    expect(zonesOf('DE')).toHaveLength(1);
    expect(zonesOf('ZZ')).toEqual([]);
    expect(zonesOf('constructor')).toEqual([]);
  });

  it('may leave no moment, and then says so', () => {
    expect(next('RU', office, '2026-12-01T00:00:00Z')).toBeNull();
    expect(neverAllowedHint('RU')).toMatch(/all 11 time zones of RU.*longer windows.*timeZone/);
    expect(next('RU', { ...office, timeZone: 'Europe/Moscow' }, '2026-12-01T00:00:00Z')).toBe(
      '2026-12-01T06:00:00.000Z',
    );
    expect(next('RU', { quietHours: { from: '21:00', to: '08:00' } }, '2026-12-01T00:00:00Z')).toBe(
      '2026-12-01T06:00:00.000Z',
    );
  });

  it('in America, area codes tell Hawaii and Alaska', () => {
    expect(next('US', office, '2026-12-01T00:00:00Z')).toBe('2026-12-01T17:00:00.000Z');
    expect(until('US', office, '2026-12-01T17:00:00Z')).toBe('2026-12-01T22:00:00.000Z');
    expect(next('US-HI', office, '2026-12-01T00:00:00Z')).toBe('2026-12-01T00:00:00.000Z');
    expect(next('US-AK', office, '2026-12-01T04:00:00Z')).toBe('2026-12-01T19:00:00.000Z');
  });
});

describe('the group of a recipient', () => {
  it.each([
    ['6281234567890', 'ID'],
    ['4915112345678', 'DE'],
    ['447911123456', 'GB'],
    ['5215512345678', 'MX'],
    ['12125550123', 'US'],
    ['16045550123', 'CA'],
    ['18765550123', 'JM'],
    ['18085550123', 'US-HI'],
    ['19075550123', 'US-AK'],
    ['79161234567', 'RU'],
    ['77011234567', 'KZ'],
    ['61412345678', 'AU'],
    ['61891641234', 'CX'],
    ['262692123456', 'RE'],
    ['262639012345', 'YT'],
    ['390612345678', 'IT'],
    ['38344123456', 'XK'],
    ['88213123456', 'ZZ'],
    ['80012345678', 'ZZ'],
    ['123456789012@lid', 'ZZ'],
    ['120363012345678901@g.us', 'ZZ'],
    ['', 'ZZ'],
    ['00000000', 'ZZ'],
  ])('%s is in %s', (address, key) => {
    expect(zoneKeyOf(address)).toBe(key);
    expect(zoneKeyOf(address)).toBe(key);
  });

  it('is the same whoever of the neighbours comes first, also after a number that is not valid', () => {
    expect(zoneKeyOf('15061234567')).toBe('CA');
    expect(zoneKeyOf('15065550123')).toBe('CA');
  });

  it('is one of a few hundred, whatever the number', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^\d{5,20}$/), (digits) => {
        expect(zoneKeyOf(digits)).toMatch(/^[A-Z]{2}(-[A-Z]{2})?$/);
      }),
    );
  });
});

describe('times that cannot be are refused with the cure', () => {
  it.each<[SendingTimes, string, RegExp]>([
    [
      { windows: [{ from: '09:00', to: '17:00' }], quietHours: { from: '08:00', to: '18:00' } },
      'windows',
      /all inside the quiet hours.*Shorten/,
    ],
    [{ quietHours: { from: '00:00', to: '24:00' } }, 'quietHours', /whole day.*Shorten/],
    [{ windows: [] }, 'windows', /Leave it out/],
    [{ windows: [{ days: [], from: '09:00', to: '10:00' }] }, 'windows.0.days', /Leave it out/],
    [
      {
        windows: [
          { from: '09:00', to: '10:00' },
          { from: '9:00', to: '10:00' },
        ],
      },
      'windows.1.from',
      /HH:MM/,
    ],
    [{ windows: [{ from: '09:00', to: '09:00' }] }, 'windows.0.to', /from 00:00 to 24:00/],
    [{ quietHours: { from: '24:00', to: '08:00' } }, 'quietHours.to', /00:00/],
    [{ quietHours: { from: '25:00', to: '08:00' } }, 'quietHours.from', /HH:MM/],
    [{ timeZone: 'Jakarta' }, 'timeZone', /Asia\/Jakarta/],
  ])('%j', (times, path, message) => {
    expect(() => compileSendingTimes(times)).toThrow(ValidationFailed);
    expect(() => compileSendingTimes(times, { path: 'campaign.' })).toThrow(
      expect.objectContaining({
        errors: [{ path: `campaign.${path}`, message: expect.stringMatching(message) as string }],
      }) as Error,
    );
  });

  it('and so are names of zones that nobody knows', () => {
    expect(['Asia/Jakarta', 'UTC', 'Etc/GMT+7', 'America/Argentina/Buenos_Aires'].every(isTimeZone)).toBe(
      true,
    );
    expect(['', 'Mars/Base', 'UTC+7', '../etc', 'x'.repeat(100), ' Asia/Jakarta'].some(isTimeZone)).toBe(
      false,
    );
  });
});

describe('whatever the times', () => {
  const minutes = fc.integer({ min: 0, max: 1_439 });
  const asTime = (minute: number) =>
    `${String(Math.floor(minute / 60)).padStart(2, '0')}:${String(minute % 60).padStart(2, '0')}`;
  const span = fc
    .tuple(minutes, minutes)
    .filter(([from, to]) => from !== to)
    .map(([from, to]) => ({ from: asTime(from), to: asTime(to) }));
  const window: fc.Arbitrary<SendingWindow> = fc
    .tuple(span, fc.option(fc.subarray([...days], { minLength: 1 })))
    .map(([hours, chosen]) => ({ ...hours, days: chosen }));
  const times = fc.record({
    windows: fc.option(fc.array(window, { minLength: 1, maxLength: 3 })),
    quietHours: fc.option(span),
    timeZone: fc.constantFrom(
      'recipient',
      'Europe/London',
      'America/New_York',
      'Africa/Casablanca',
      'Australia/Lord_Howe',
    ),
  });
  const keys = fc.constantFrom('ID', 'US', 'DE', 'RU', 'BR', 'IN', 'ZZ');
  /** Often near a change of the clocks in Europe, America or Australia. */
  const at = fc
    .tuple(
      fc.constantFrom(
        '2026-03-08',
        '2026-03-29',
        '2026-04-05',
        '2026-10-04',
        '2026-10-25',
        '2026-11-01',
        '2026-06-15',
      ),
      fc.integer({ min: -2 * 86_400_000, max: 2 * 86_400_000 }),
    )
    .map(([day, shift]) => new Date(Date.parse(day) + shift));

  /** The same rules in the words of their definition: what the clock shows. */
  function isAllowed(key: string, { windows, quietHours, timeZone }: SendingTimes, moment: number): boolean {
    const zones = timeZone === 'recipient' ? zonesOf(key) : [timeZone!];
    return (zones.length === 0 ? ['UTC'] : zones).every((zone) => {
      const clock = DateTime.fromMillis(moment, { zone });
      const minute = clock.hour * 60 + clock.minute;
      const inside = ({ from, to, days: chosen }: SendingWindow) => {
        const [start, end] = [from, to].map((time) => Number(time.slice(0, 2)) * 60 + Number(time.slice(3)));
        const begins = (day: number) => !chosen || chosen.includes(days[day]!);
        const today = clock.weekday - 1;
        if (start! < end!) return begins(today) && minute >= start! && minute < end!;
        return (begins(today) && minute >= start!) || (begins((today + 6) % 7) && minute < end!);
      };
      return (!windows || windows.some(inside)) && !(quietHours && inside(quietHours));
    });
  }

  it('the next moment is allowed, is the first one, and lasts until its end', () => {
    let found = 0;
    fc.assert(
      fc.property(
        times,
        keys,
        at,
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 20, maxLength: 20 }),
        (given, key, from, parts) => {
          let plan;
          try {
            plan = compileSendingTimes(given);
          } catch (error) {
            expect(error).toBeInstanceOf(ValidationFailed);
            // Never a moment of a week.
            for (let hour = 0; hour < 168; hour += 1)
              expect(isAllowed('ZZ', given, from.getTime() + hour * 3_600_000)).toBe(false);
            return;
          }
          const start = nextAllowed(key, plan, from);
          const limit = start?.getTime() ?? from.getTime() + 14 * 86_400_000;
          for (const part of parts) {
            const before = from.getTime() + Math.floor(part * (limit - from.getTime()));
            if (before < limit) expect(isAllowed(key, given, before)).toBe(false);
          }
          if (start === null) return;
          found += 1;
          expect(start.getTime()).toBeGreaterThanOrEqual(from.getTime());
          expect(isAllowed(key, given, start.getTime())).toBe(true);
          if (start > from) expect(isAllowed(key, given, start.getTime() - 1)).toBe(false);
          const end = allowedUntil(key, plan, start);
          const last = end?.getTime() ?? start.getTime() + 14 * 86_400_000;
          for (const part of parts)
            expect(
              isAllowed(key, given, start.getTime() + Math.floor(part * (last - 1 - start.getTime()))),
            ).toBe(true);
          if (end) expect(isAllowed(key, given, end.getTime())).toBe(false);
        },
      ),
      { numRuns: 300 },
    );
    expect(found).toBeGreaterThan(100);
  });
});
