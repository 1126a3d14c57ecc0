import { describe, expect, it } from 'vitest';
import { NumberChecks } from '../../src/chats/number-checks.js';
import { TooManyNumberChecks } from '../../src/chats/page-errors.js';

const answer = (phone: string) => ({ phone, registered: true, chatId: `${phone}@c.us`, lid: null });

describe('number checks', () => {
  it('are remembered for ten minutes, for each account by itself', () => {
    let now = 0;
    const checks = new NumberChecks(() => now);
    checks.remember('a', answer('6281'));
    now = 599_999;
    expect(checks.known('a', '6281')).toEqual(answer('6281'));
    expect(checks.known('b', '6281')).toBeUndefined();
    now = 600_000;
    expect(checks.known('a', '6281')).toBeUndefined();
  });

  it('forget the oldest answers when there are very many', () => {
    const checks = new NumberChecks(() => 0);
    for (let i = 0; i <= 20_000; i += 1) checks.remember('a', answer(String(i)));
    expect(checks.known('a', '0')).toBeUndefined();
    expect(checks.known('a', '1')).toBeDefined();
    expect(checks.known('a', '20000')).toBeDefined();
  });

  it('are thirty a minute at most, for each account by itself', () => {
    let now = 0;
    const checks = new NumberChecks(() => now);
    for (let i = 0; i < 30; i += 1) checks.count('a');
    expect(() => checks.count('a')).toThrow(TooManyNumberChecks);
    expect(() => checks.count('b')).not.toThrow();
    now = 60_000;
    expect(() => checks.count('a')).not.toThrow();
  });
});
