import { describe, expect, it } from 'vitest';
import { pause } from '../../src/platform/pause.js';
import { poll } from '../../src/platform/poll.js';

const never = 3_600_000;

describe('a poller', () => {
  it('asks at once, and then until the answer is yes, each time after its pause', async () => {
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

  it('takes 0 and an empty text for a yes', async () => {
    expect(await poll(() => Promise.resolve(0), { pauseMs: never })).toBe(0);
    expect(await poll(() => Promise.resolve(''), { pauseMs: never })).toBe('');
  });

  it('asks a last time when the time is over', async () => {
    let asked = 0;
    const ask = () => Promise.resolve(++asked > 2);
    expect(await poll(ask, { pauseMs: never, limitMs: 20 })).toBe(false);
    expect(asked).toBe(2);
  });

  it('fails with what the question throws', async () => {
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

it('a pause ends when its signal aborts, or has aborted before', async () => {
  await pause(never, { signal: AbortSignal.abort() });
  const signal = new AbortController();
  setImmediate(() => signal.abort());
  await pause(never, { signal: signal.signal });
});
