import { describe, expect, it } from 'vitest';
import { WebBreaker } from '../../src/sending/web-breaker.js';

const changed = 'TypeError: e.frobnicate is not a function';
const page = expect.objectContaining({ at: 'page' });
let id = 0;

/** A message of an account that was not tried before. */
function message(accountId = 'one', more: { sha256?: string; attempt?: number } = {}) {
  const { sha256, attempt = 1 } = more;
  return { id: `message-${++id}`, accountId, attempt, media: sha256 ? { sha256 } : null };
}

/** A breaker that has just opened because of three messages of an account. */
function opened() {
  const breaker = new WebBreaker(() => 0);
  const suspects = [message(), message(), message()];
  const verdicts = suspects.map((suspect) => breaker.noteFailure(suspect, changed));
  expect(verdicts.at(-1)).toEqual({ at: 'page', reason: changed, reloadAfterMs: 30_000 });
  return { breaker, suspects };
}

describe('the breaker opens', () => {
  it('at the third message of an account that fails with a new error', () => {
    const breaker = new WebBreaker();
    expect(breaker.noteFailure(message(), changed).at).toBe('message');
    expect(breaker.noteFailure(message(), changed).at).toBe('aside');
    expect(breaker.noteFailure(message(), 'Error: another new one')).toEqual(page);
  });

  it('at the third message of several accounts that fails with the same error', () => {
    const breaker = new WebBreaker();
    const error = (number: number) => `Error: no field ${number} in ${number}@c.us`;
    expect(breaker.noteFailure(message('one'), error(1)).at).toBe('message');
    expect(breaker.noteFailure(message('two'), error(2)).at).toBe('message');
    expect(breaker.noteFailure(message('three'), error(3))).toEqual(page);
  });

  it('at the second of two messages that fails again after it stepped aside', () => {
    const breaker = new WebBreaker();
    const [first, second] = [message(), message()];
    breaker.noteFailure(first, changed);
    expect(breaker.noteFailure(second, changed).at).toBe('aside');
    expect(breaker.noteFailure(second, changed)).toEqual(page);
  });

  it('at the second failure of a message that holds its lane after an uncertain attempt', () => {
    const breaker = new WebBreaker();
    const uncertain = message('one', { attempt: 2 });
    expect(breaker.noteFailure(uncertain, changed).at).toBe('message');
    expect(breaker.noteFailure(uncertain, changed)).toEqual(page);
  });

  it('when acks come for messages that the page does not find', () => {
    const breaker = new WebBreaker();
    breaker.noteUnfound(message());
    breaker.noteUnfound(message());
    expect(breaker.noteUnfound(message())).toEqual(page);
  });
});

it.each(['TypeError: e.upload is not a function', 'ReferenceError: connection is not defined'])(
  'code of the page that is not there is no known error, whatever its name is: %s',
  (error) => {
    const breaker = new WebBreaker();
    for (let number = 0; number < 2; number += 1) breaker.noteFailure(message(), error);
    expect(breaker.noteFailure(message(), error)).toEqual(page);
  },
);

describe('the breaker stays closed', () => {
  it.each([
    'ServerStatusCodeError: 429',
    'Error: No LID for user',
    'Error: media-fault: the upload was answered 503',
    'EncodingError: The source image cannot be decoded.',
    'Error: no answer',
    'Error: The server did not answer "exists" in time.',
    'Error: The connection was lost.',
    'Error: The account has no chat 1@newsletter',
    'TypeError: Failed to fetch',
    'DuplicateMessageError: the database has this message',
    'Error: Contact is blocked',
  ])('for errors that are known and handled: %s', (error) => {
    const breaker = new WebBreaker();
    for (let number = 0; number < 10; number += 1)
      expect(breaker.noteFailure(message(`account-${number % 2}`), error).at).toBe('known');
  });

  it('for a single bad message, which steps aside once after all its tries and then fails', () => {
    const breaker = new WebBreaker();
    const bad = message();
    const verdicts = Array.from({ length: 7 }, () => breaker.noteFailure(bad, changed).at);
    expect(verdicts).toEqual(['message', 'message', 'message', 'message', 'aside', 'message', 'message']);
  });

  it('for one bad file in many messages', () => {
    const breaker = new WebBreaker();
    const verdicts = Array.from({ length: 10 }, () =>
      breaker.noteFailure(message('one', { sha256: 'a' }), changed),
    );
    expect(verdicts).not.toContainEqual(page);
  });

  it('if other messages leave in between', () => {
    const breaker = new WebBreaker();
    for (let number = 0; number < 10; number += 1) {
      expect(breaker.noteFailure(message(), changed).at).toBe('message');
      breaker.noteSuccess('one');
    }
  });

  it('for old errors of other accounts', () => {
    let now = 0;
    const breaker = new WebBreaker(() => now);
    for (const account of ['one', 'two', 'three', 'four']) {
      expect(breaker.noteFailure(message(account), changed).at).toBe('message');
      now += 6 * 60_000;
    }
  });
});

describe('after the page was loaded again', () => {
  it('each suspect steps aside once, and one new message that fails opens the breaker again, for longer', () => {
    const { breaker, suspects } = opened();
    for (const suspect of suspects) expect(breaker.noteFailure(suspect, changed).at).toBe('aside');
    expect(breaker.noteFailure(message(), changed)).toEqual({
      at: 'page',
      reason: changed,
      reloadAfterMs: 60_000,
    });
  });

  it('a suspect that fails twice opens it again: there is no other message', () => {
    const { breaker, suspects } = opened();
    expect(breaker.noteFailure(suspects[0]!, changed).at).toBe('aside');
    expect(breaker.noteFailure(suspects[0]!, changed)).toEqual(page);
  });

  it('one send that works closes it, and the suspects are judged by themselves', () => {
    const { breaker, suspects } = opened();
    expect(breaker.noteFailure(suspects[0]!, changed).at).toBe('aside');
    breaker.noteSuccess('one');
    expect(breaker.noteFailure(suspects[0]!, changed).at).toBe('message');
  });
});
