import { describe, expect, it } from 'vitest';
import { pause } from '../../src/platform/pause.js';
import { poll } from '../../src/platform/poll.js';

const never = 3_600_000;

describe('a poller', () => {
  it('asks at once, then again after each pause until the answer is neither null nor false', async () => {
    const [questions, pauses]: [number[], number[]] = [[], []];
    const ask = (asked: number) => {
      questions.push(asked);
      return Promise.resolve(asked === 3 ? 'yes' : null);
    };
    const pauseMs = (asked: number) => {
      pauses.push(asked);
      return 1;
    };
    expect(await poll(ask, { pauseMs })).toBe('yes');
    expect(questions).toEqual([0, 1, 2, 3]);
    expect(pauses).toEqual([1, 2, 3]);
  });

  it('accepts 0 and an empty text as answers', async () => {
    expect(await poll(() => Promise.resolve(0), { pauseMs: never })).toBe(0);
    expect(await poll(() => Promise.resolve(''), { pauseMs: never })).toBe('');
  });

  it('asks one last time at the timeout', async () => {
    let asked = 0;
    const ask = () => Promise.resolve(++asked > 2);
    expect(await poll(ask, { pauseMs: never, limitMs: 20 })).toBe(false);
    expect(asked).toBe(2);
  });

  it('throws the error of a question', async () => {
    const ask = () => Promise.reject(new Error('No answer.'));
    await expect(poll(ask, { pauseMs: never })).rejects.toThrow('No answer.');
  });

  it('ends when its signal aborts, without another question', async () => {
    const gone = new AbortController();
    let asked = 0;
    const ask = () => {
      asked += 1;
      setImmediate(() => gone.abort());
      return Promise.resolve(false);
    };
    expect(await poll(ask, { pauseMs: never, signal: gone.signal })).toBe(false);
    expect(asked).toBe(1);
  });
});

it('a pause ends when its signal aborts, and at once if the signal has already aborted', async () => {
  await pause(never, { signal: AbortSignal.abort() });
  const signal = new AbortController();
  setImmediate(() => signal.abort());
  await pause(never, { signal: signal.signal });
});
