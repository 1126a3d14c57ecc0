import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ActionUncertain, ActionRunner } from '../../src/receiving/action-runner.js';
import type { UpdatesService } from '../../src/receiving/updates.service.js';
import { fake } from '../support/fake.js';
import { sessionsWith } from '../support/fakes.js';

/* A page takes as long as it likes here, so that no test has to wait for a quarter of a minute. */

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** @param takesMs how long the page takes for each action */
function actorOn(takesMs: number[]) {
  const begun: string[] = [];
  const sessions = sessionsWith({
    act: async (_target, action) => {
      if (action.kind === 'edit') begun.push(action.text);
      await new Promise((resolve) => setTimeout(resolve, takesMs[begun.length - 1]));
      return { outcome: 'done', at: 1 };
    },
  });
  const actor = new ActionRunner(sessions, fake<UpdatesService>({ writeChanges: async () => undefined }));
  const edit = (text: string, whatsappId = 'one') =>
    actor
      .act('account', {
        epoch: 1,
        target: { whatsappId, chatId: '6281234567890@c.us', fromMe: true, author: null },
        action: { kind: 'edit', text },
      })
      .then(
        () => 'done',
        (error: unknown) => error,
      );
  return { edit, begun };
}

describe('edits of one message', () => {
  it('take turns, and edits of another message do not wait', async () => {
    const { edit, begun } = actorOn([5_000, 100, 100]);
    const answers = [edit('first'), edit('second'), edit('other', 'two')];
    await vi.advanceTimersByTimeAsync(4_000);
    expect(begun).toEqual(['first', 'other']);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(await Promise.all(answers)).toEqual(['done', 'done', 'done']);
    expect(begun).toEqual(['first', 'other', 'second']);
  });

  it('are refused and not begun if their turn comes too late; a later edit gets its turn', async () => {
    const { edit, begun } = actorOn([16_000, 100]);
    const answers = [edit('first'), edit('second'), edit('third')];
    await vi.advanceTimersByTimeAsync(16_000);
    expect(await Promise.all(answers)).toEqual([
      'done',
      expect.any(ActionUncertain),
      expect.any(ActionUncertain),
    ]);
    const later = edit('later');
    await vi.advanceTimersByTimeAsync(100);
    expect(await later).toBe('done');
    expect(begun).toEqual(['first', 'later']);
  });
});
