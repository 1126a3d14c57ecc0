import { describe, expect, it } from 'vitest';
import { LaneTurns } from '../../src/sending/lane-turns.js';

const lane = (accountId: string, workspaceId: string) => ({ accountId, workspaceId });

describe('turns', () => {
  it('are longer if a workspace has fewer lanes, so that each workspace gets the same share', () => {
    let now = 10_000;
    const turns = new LaneTurns(() => now);
    for (let number = 0; number < 40; number += 1) turns.note(lane(`many ${number}`, 'many'));
    for (let number = 0; number < 4; number += 1) turns.note(lane(`few ${number}`, 'few'));
    now += 2_000;
    expect(turns.length('many')).toBe(1);
    expect(turns.length('few')).toBe(10);
    expect(turns.length('never seen')).toBe(40);
    // Lanes without messages no longer count.
    now += 9_000;
    turns.note(lane('few 0', 'few'));
    now += 2_000;
    expect(turns.length('few')).toBe(1);
  });

  it('have a maximum length', () => {
    const turns = new LaneTurns();
    for (let number = 0; number < 500; number += 1) turns.note(lane(`${number}`, 'many'));
    turns.note(lane('one', 'one'));
    expect(turns.length('one')).toBe(50);
    expect(turns.length('many')).toBe(1);
  });
});
