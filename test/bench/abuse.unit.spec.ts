import { describe, expect, it } from 'vitest';
import { nastyRequests, operations } from '../../bench/abuse-bodies.mjs';
import { breachesOf, type Cost, harmOf, type View, viewOf } from '../../bench/abuse-judge.mjs';
import type { Sample, Window } from '../../bench/abuse-victim.mjs';

const ok = (due: number, ms: number, api = 0): Sample => ({
  due,
  api,
  kind: 'send',
  ms,
  status: 202,
  isExpected: true,
});
const windowOf = (samples: Sample[], given: Partial<Window> = {}): Window => ({
  from: 0,
  to: 1_000,
  samples,
  eventDelays: [],
  webhookDelays: [],
  brokenStreams: 0,
  ownDelayMs: 1,
  ...given,
});
/** A request every 10 ms, each answered after 5 ms, half of them by each process. */
const calm = Array.from({ length: 100 }, (_, number) => ok(number * 10, 5, number % 2));
const cost: Cost = { grownBytes: 0, keptBytes: 0, backAfterMs: 0, loopMs: 1, restarts: 0 };
const before: View = viewOf(windowOf(calm));

describe('the judge of an attack', () => {
  it('has nothing against an attack that nobody notices', () => {
    expect(before).toMatchObject({ requests: 100, p95: 5, gaps: [], errors: 0 });
    expect(harmOf(before, before, cost)).toEqual([]);
  });

  it('sees a process that stands still while the other one answers', () => {
    const stopped = calm.map((one) =>
      one.api === 1 && one.due >= 200 && one.due < 700 ? { ...one, ms: 705 - one.due } : one,
    );
    const during = viewOf(windowOf(stopped));
    expect(during.gaps).toEqual([510]);
    expect(harmOf(before, during, cost)).toContain('a gap of 510 ms');
  });

  it('sees a process that answers nothing from the beginning', () => {
    const during = viewOf(windowOf([ok(0, 400)]));
    expect(during.gaps).toEqual([400]);
  });

  it('sees slow answers, wrong answers and broken streams', () => {
    const slow = viewOf(windowOf(calm.map((one) => ({ ...one, ms: 11 }))));
    expect(harmOf(before, slow, cost)).toEqual(['p95 is 2.2 times that of before, more than 2']);
    const wrong = windowOf([...calm, { ...ok(990, 5), status: 429, isExpected: false }], {
      brokenStreams: 1,
    });
    expect(harmOf(before, viewOf(wrong), cost)).toEqual(['2 errors: send: 429; an event stream broke']);
  });

  it('sees memory that grows or stays, and processes that ended', () => {
    const misses = harmOf(before, before, { ...cost, grownBytes: 151e6, keptBytes: 76e6, restarts: 1 });
    expect(misses).toEqual([
      '1 API processes ended',
      'an API process grew by 151 MB',
      'an API process kept 76 MB',
    ]);
  });

  it('sees a limit that does not hold, and one that was not reached', () => {
    const counts = { limit: 1_000, perSecond: 100, sent: 2_000, accepted: 1_200 };
    expect(breachesOf({ answers: {}, counts })).toEqual([]);
    expect(breachesOf({ answers: {}, counts: { ...counts, accepted: 1_201 } })).toHaveLength(1);
    expect(breachesOf({ answers: {}, counts: { ...counts, sent: 1_200, accepted: 1_100 } })).toHaveLength(1);
  });

  it('sees connections to inner addresses, different errors, and foreign things', () => {
    const counts = { arrived: 1, acceptedAddresses: 2, foreign: 1, lockedOut: 1 };
    const seen = { refusals: ['400 a', '400 b'], reasons: ['one'], allowed: ['GET /x'] };
    expect(breachesOf({ answers: {}, counts, seen })).toEqual([
      '1 connections to an inner address',
      '2 inner addresses were accepted as a proxy',
      'a valid key was refused from the address of the flood',
      'allowed: GET /x',
      '2 different refusals',
    ]);
  });
});

describe('the nasty requests', () => {
  it('reach every route that takes a body or a query, with bodies just below the limits', () => {
    const wanted = operations.filter(({ body }) => body).map(({ method, path }) => `${method} ${path}`);
    expect(wanted.length).toBeGreaterThan(20);
    // Whole bodies take a minute to parse.
    const share = 0.01;
    const requests = nastyRequests((path) => path, share);
    const found = new Set<string>();
    // The first round has all routes.
    for (let number = 0; number < 400; number += 1) {
      const { method, path, body } = requests.next().value;
      if (body === undefined) continue;
      found.add(`${method} ${path}`);
      const limit = share * (path.startsWith('/api/v1/messages') ? 8_000_000 : 1_000_000);
      expect(body.length).toBeLessThanOrEqual(limit);
      expect(body.length).toBeGreaterThan(limit * 0.9);
      // Broken JSON would be refused before it costs anything.
      expect(() => JSON.parse(body)).not.toThrow();
    }
    expect(wanted.filter((route) => !found.has(route))).toEqual([]);
  });
});
