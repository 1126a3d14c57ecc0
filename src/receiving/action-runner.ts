import { Injectable } from '@nestjs/common';
import { AccountSessions } from '../sessions/account-sessions.js';
import { SessionNotReady } from '../accounts/account-errors.js';
import { Problem } from '../platform/errors/problem.js';
import type { PageChange } from '../whatsapp/in-page/page-functions.js';
import type { PageActionResult } from '../whatsapp/in-page/page-actions.js';
import { ActionNotAllowed, type ActOnMessage, NotInGroup } from '../messages/message-actions.service.js';
import { UpdatesService } from './updates.service.js';

export class ActionUncertain extends Problem {
  constructor(cause: unknown) {
    super(
      504,
      'whatsapp.no_answer',
      'WhatsApp Web did not confirm the action. If it was done, the message will show it. Try again: repeating it is safe.',
    );
    this.cause = cause;
  }
}

/** An action that waits longer for its turn is refused, because it might end after the timeout of its caller. */
const maxWaitMs = 15_000;

const refusals = {
  edit: 'WhatsApp does not allow editing this message. A message can be edited for 15 minutes after it was sent, unless it was revoked.',
  revoke:
    'WhatsApp does not allow revoking this message. A message can be revoked for about two days after it was sent.',
  react: 'WhatsApp does not allow this account to react to this message.',
  read: 'WhatsApp does not allow this account to read this message.',
};

/** Edits, revokes, reads and reacts through the sessions of this instance, and writes the results. */
@Injectable()
export class ActionRunner {
  /** By message: its last action. Two edits at the same time would each wait for a text that the other has replaced. */
  private readonly turns = new Map<string, Promise<void>>();

  constructor(
    private readonly sessions: AccountSessions,
    private readonly updates: UpdatesService,
  ) {}

  /**
   * @throws AccountNotDrivenHere, SessionNotReady, WebIncompatible (nothing was done), ActionNotAllowed, NotInGroup, ActionUncertain
   */
  async act(accountId: string, request: ActOnMessage): Promise<void> {
    const key = `${accountId}/${request.target.whatsappId}`;
    const before = this.turns.get(key) ?? Promise.resolve();
    const deadline = performance.now() + maxWaitMs;
    const turn = before
      .catch(() => undefined)
      .then(() => {
        if (performance.now() > deadline)
          throw new ActionUncertain(new Error('Earlier actions took too long.'));
        return this.actNow(accountId, request);
      });
    this.turns.set(key, turn);
    try {
      await turn;
    } finally {
      if (this.turns.get(key) === turn) this.turns.delete(key);
    }
  }

  private async actNow(accountId: string, { epoch, target, action }: ActOnMessage): Promise<void> {
    const session = this.sessions.sendingDriver(accountId, epoch).current;
    let result: PageActionResult;
    try {
      result = await session.act(target, action);
    } catch (error) {
      throw new ActionUncertain(error);
    }
    switch (result.outcome) {
      case 'not_ready':
        throw new SessionNotReady(accountId);
      case 'not_found':
        throw new ActionNotAllowed(action.kind, 'WhatsApp Web no longer has this message.');
      case 'not_member':
        throw new NotInGroup(target.chatId);
      case 'not_allowed':
        throw new ActionNotAllowed(action.kind, refusals[action.kind]);
      case 'timed_out':
        throw new ActionUncertain(new Error('It took too long.'));
      case 'done':
        if (action.kind === 'read') {
          await this.updates.markRead(accountId, [target.whatsappId]);
          return;
        }
        // The page reports the change too. The second write changes nothing.
        await this.updates.writeChanges(accountId, [changeBy(target.whatsappId, action, result.at)]);
    }
  }
}

function changeBy(
  whatsappId: string,
  action: Exclude<ActOnMessage['action'], { kind: 'read' }>,
  at: number,
): PageChange {
  if (action.kind === 'edit') return { kind: 'edited', whatsappId, text: action.text, at };
  if (action.kind === 'revoke') return { kind: 'revoked', whatsappId, at };
  return { kind: 'reaction', whatsappId, from: null, emoji: action.emoji, at };
}
