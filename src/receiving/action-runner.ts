import { Injectable } from '@nestjs/common';
import { AccountSessions } from '../sessions/account-sessions.js';
import { SessionNotReady } from '../accounts/account-errors.js';
import { Problem } from '../platform/errors/problem.js';
import type { PageChange } from '../whatsapp/in-page/page-functions.js';
import type { PageActionResult } from '../whatsapp/in-page/page-actions.js';
import { ActionNotAllowed, type ActOnMessage } from '../messages/message-actions.service.js';
import { UpdatesService } from './updates.service.js';

export class ActionUncertain extends Problem {
  constructor(reason: string) {
    super(
      504,
      'whatsapp.no_answer',
      `WhatsApp Web did not say that it is done (${reason}). If it is, the message will show it; asking again is safe.`,
    );
  }
}

/** Whose turn comes later than this is refused: it might not end before its caller has given up. */
const longestWaitMs = 15_000;

const refusals = {
  edit: 'WhatsApp does not let this message be edited: a quarter of an hour after it was sent, or when it is revoked, it is too late.',
  revoke: 'WhatsApp does not let this message be revoked: about two days after it was sent it is too late.',
  react: 'WhatsApp does not let this account react to this message.',
};

/** Edits, revokes and reacts through the sessions of this instance, and writes down what came of it. */
@Injectable()
export class ActionRunner {
  /** What is being done to a message: two edits at once would each wait for a text that the other one has replaced. */
  private readonly turns = new Map<string, Promise<void>>();

  constructor(
    private readonly sessions: AccountSessions,
    private readonly updates: UpdatesService,
  ) {}

  /**
   * @throws AccountNotDrivenHere, SessionNotReady (nothing was done), ActionNotAllowed, ActionUncertain
   */
  async act(accountId: string, asked: ActOnMessage): Promise<void> {
    const key = `${accountId}/${asked.target.whatsappId}`;
    const before = this.turns.get(key) ?? Promise.resolve();
    const deadline = performance.now() + longestWaitMs;
    const turn = before
      .catch(() => undefined)
      .then(() => {
        if (performance.now() > deadline) throw new ActionUncertain('others come before it');
        return this.actNow(accountId, asked);
      });
    this.turns.set(key, turn);
    try {
      await turn;
    } finally {
      if (this.turns.get(key) === turn) this.turns.delete(key);
    }
  }

  private async actNow(accountId: string, { epoch, target, action }: ActOnMessage): Promise<void> {
    const session = this.sessions.readyDriver(accountId, epoch).current;
    let result: PageActionResult;
    try {
      result = await session.act(target, action);
    } catch (error) {
      throw new ActionUncertain(error instanceof Error ? error.message : String(error));
    }
    switch (result.outcome) {
      case 'not_ready':
        throw new SessionNotReady(accountId);
      case 'not_found':
        throw new ActionNotAllowed(action.kind, 'WhatsApp Web does not have this message any more.');
      case 'not_allowed':
        throw new ActionNotAllowed(action.kind, refusals[action.kind]);
      case 'timed_out':
        throw new ActionUncertain('it took too long');
      case 'done':
        // The page tells of it too; whichever comes second changes nothing.
        await this.updates.writeChanges(accountId, [changeBy(target.whatsappId, action, result.at)]);
    }
  }
}

function changeBy(whatsappId: string, action: ActOnMessage['action'], at: number): PageChange {
  if (action.kind === 'edit') return { kind: 'edited', whatsappId, text: action.text, at };
  if (action.kind === 'revoke') return { kind: 'revoked', whatsappId, at };
  return { kind: 'reaction', whatsappId, from: null, emoji: action.emoji, at };
}
