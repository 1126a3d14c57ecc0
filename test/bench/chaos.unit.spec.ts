import { describe, expect, it } from 'vitest';
import { judge, type Line, type Row } from '../../bench/chaos-judge.mjs';
import { faultsOf } from '../../bench/chaos-plan.mjs';

const text = (number: number, lane = '0/normal') => `chaos/${lane}/${String(number).padStart(7, '0')}`;

const phone = '6281200000000';

/** A run in which everything went well: as many messages of one lane as there are statuses. */
function runOf(statuses: string[]) {
  const rows: Row[] = statuses.map((status, number) => ({
    id: `id-${number}`,
    text: text(number),
    status,
    error: status === 'failed' ? 'whatsapp.refused' : null,
  }));
  const ledger: Line[] = rows
    .filter(({ status }) => ['sent', 'delivered', 'read'].includes(status))
    .map((row, index) => lineOf(index + 1, row.text));
  return { accepted: new Map(rows.map((row) => [row.text, row.id])), rows, ledger, phones: [phone] };
}

function lineOf(seq: number, text: string, duplicate = false): Line {
  return { seq, from: phone, text, duplicate };
}

describe('the judge of a chaos run', () => {
  it('finds nothing wrong with messages that have their end', () => {
    const run = runOf(['read', 'failed', 'sent', 'cancelled', 'expired', 'delivered']);
    expect(judge(run)).toMatchObject({
      accepted: 6,
      received: 3,
      ends: { sent: 3, failed: 1, cancelled: 1, expired: 1, unknown: 0 },
      offences: [],
    });
  });

  it('takes what the recipient drops for one message', () => {
    const run = runOf(['read', 'read']);
    run.ledger.push(lineOf(3, text(0), true));
    expect(judge(run)).toMatchObject({ received: 2, sentAgain: 1, offences: [] });
  });

  it('misses what the sandbox never got, what never ended, and what is not even in the table', () => {
    const run = runOf(['read', 'read', 'sending', 'read']);
    run.ledger.shift();
    run.rows.pop();
    run.ledger.pop();
    const { lost, offences } = judge(run);
    expect(lost).toBe(3);
    expect(offences.map((offence) => offence.text)).toEqual([text(2), text(0), text(3)].sort());
  });

  it('sees what came twice, too late, or although it was denied', () => {
    const run = runOf(['read', 'read', 'failed']);
    run.ledger.push(lineOf(3, text(0)), lineOf(4, text(2)));
    expect(judge(run)).toMatchObject({ doubled: 1, disorder: 1, denied: 1, lost: 0 });
  });

  it('does not hold one priority against another', () => {
    const run = runOf(['read', 'read']);
    const urgent = text(0, '0/urgent');
    run.rows.push({ id: 'urgent', text: urgent, status: 'sent', error: null });
    run.accepted.set(urgent, 'urgent');
    run.ledger.push(lineOf(3, urgent));
    expect(judge(run)).toMatchObject({ disorder: 0, offences: [] });
  });

  it('sees what another account sent', () => {
    const run = runOf(['read', 'read']);
    run.ledger[1]!.from = '6281211111111';
    expect(judge(run)).toMatchObject({ misdirected: 1, lost: 0 });
  });

  it('counts what is unknown, what failed unrefused, and what nobody asked for', () => {
    const run = runOf(['unknown', 'failed', 'read']);
    run.rows[1]!.error = 'worker.failed';
    run.accepted.delete(text(2));
    expect(judge(run)).toMatchObject({ unknown: 1, failed: 1, unasked: 1, accepted: 2 });
  });
});

describe('the plan of a chaos run', () => {
  const first = (seed: number, count: number) => {
    const faults = faultsOf(seed);
    return Array.from({ length: count }, () => faults.next().value);
  };

  it('is the same for the same seed, and another for another', () => {
    expect(first(7, 200)).toEqual(first(7, 200));
    expect(first(7, 200)).not.toEqual(first(8, 200));
  });

  it('has every kind of fault in each round, and hangs longer and shorter than a lease', () => {
    const faults = first(7, 200);
    const kinds = new Set(faults.map(({ kind, what }) => `${kind} ${what}`));
    for (const kind of [
      'kill worker',
      'kill postgres',
      'hang browser',
      'flush redis',
      'supervisord supervisord',
    ])
      expect(kinds).toContain(kind);
    const hangs = faults.filter(({ kind }) => kind === 'hang').map(({ forMs }) => forMs);
    expect(Math.min(...hangs)).toBeLessThan(5_000);
    expect(Math.max(...hangs)).toBeGreaterThan(5_000);
  });
});
