import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LaneTurns } from '../../src/messages/lane-turns.js';
import { strictOrder } from '../../src/messages/message-rows.js';

const [urgent, high, normal, campaign] = strictOrder as [number, number, number, number];
const lane = (accountId: string, workspaceId = 'w') => ({ accountId, workspaceId });

describe('the share of campaigns within a lane', () => {
  it('is one of 20 messages at 0.05, and in strict order otherwise', () => {
    const turns = new LaneTurns(0.05);
    const sent: number[] = [];
    for (let number = 0; number < 400; number += 1) {
      // Something of every priority but urgent waits all the time.
      const next = turns.order('a', strictOrder).find((priority) => priority !== urgent)!;
      turns.note(lane('a'), next);
      sent.push(next);
    }
    expect(sent.filter((priority) => priority === campaign)).toHaveLength(20);
    expect(sent.filter((priority) => priority === high)).toHaveLength(380);
    expect(sent.slice(0, 19)).not.toContain(campaign);
  });

  it('never puts a campaign before an urgent one, nor anything that is not served', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.subarray([...strictOrder]),
        fc.array(fc.constantFrom(...strictOrder), { maxLength: 60 }),
        (share, served, history) => {
          const turns = new LaneTurns(share);
          history.forEach((priority) => turns.note(lane('a'), priority));
          const order = turns.order('a', served);
          expect([...order].sort()).toEqual([...served].sort());
          if (served.includes(urgent)) expect(order[0]).toBe(urgent);
          expect(order.filter((priority) => priority !== campaign)).toEqual(
            served.filter((priority) => priority !== campaign),
          );
        },
      ),
    );
  });

  it('is none at 0', () => {
    const turns = new LaneTurns(0);
    for (let number = 0; number < 1000; number += 1) turns.note(lane('a'), normal);
    expect(turns.order('a', strictOrder)).toEqual(strictOrder);
  });
});

describe('turns', () => {
  it('are longer the fewer lanes a workspace has, so that each workspace gets the same', () => {
    let now = 10_000;
    const turns = new LaneTurns(0, () => now);
    for (let number = 0; number < 40; number += 1) turns.note(lane(`many ${number}`, 'many'), normal);
    for (let number = 0; number < 4; number += 1) turns.note(lane(`few ${number}`, 'few'), normal);
    now += 2_000;
    expect(turns.turn('many')).toBe(1);
    expect(turns.turn('few')).toBe(10);
    expect(turns.turn('never seen')).toBe(40);
    // Those that have nothing to send any more count no longer.
    now += 9_000;
    turns.note(lane('few 0', 'few'), normal);
    now += 2_000;
    expect(turns.turn('few')).toBe(1);
  });

  it('have an end', () => {
    const turns = new LaneTurns(0);
    for (let number = 0; number < 500; number += 1) turns.note(lane(`${number}`, 'many'), normal);
    turns.note(lane('one', 'one'), normal);
    expect(turns.turn('one')).toBe(50);
    expect(turns.turn('many')).toBe(1);
  });
});
