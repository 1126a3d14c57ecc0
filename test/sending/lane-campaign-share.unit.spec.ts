import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LaneCampaignShare } from '../../src/sending/lane-campaign-share.js';
import { strictOrder } from '../../src/sending/lane-order.js';

const [urgent, high, normal, campaign] = strictOrder as [number, number, number, number];

describe('the share of campaigns within a lane', () => {
  it('is one of 20 messages at 0.05, and in strict order otherwise', () => {
    const campaigns = new LaneCampaignShare(0.05);
    const sent: number[] = [];
    for (let number = 0; number < 400; number += 1) {
      // Messages of every priority except urgent wait all the time.
      const next = campaigns.order('a', strictOrder).find((priority) => priority !== urgent)!;
      campaigns.note('a', next);
      sent.push(next);
    }
    expect(sent.filter((priority) => priority === campaign)).toHaveLength(20);
    expect(sent.filter((priority) => priority === high)).toHaveLength(380);
    expect(sent.slice(0, 19)).not.toContain(campaign);
  });

  it('never puts a campaign before an urgent message, and contains only served priorities', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.subarray([...strictOrder]),
        fc.array(fc.constantFrom(...strictOrder), { maxLength: 60 }),
        (share, served, history) => {
          const campaigns = new LaneCampaignShare(share);
          history.forEach((priority) => campaigns.note('a', priority));
          const order = campaigns.order('a', served);
          expect([...order].sort()).toEqual([...served].sort());
          if (served.includes(urgent)) expect(order[0]).toBe(urgent);
          expect(order.filter((priority) => priority !== campaign)).toEqual(
            served.filter((priority) => priority !== campaign),
          );
        },
      ),
    );
  });

  it('changes nothing at 0', () => {
    const campaigns = new LaneCampaignShare(0);
    for (let number = 0; number < 1000; number += 1) campaigns.note('a', normal);
    expect(campaigns.order('a', strictOrder)).toEqual(strictOrder);
  });
});
