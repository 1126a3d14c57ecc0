import { Injectable } from '@nestjs/common';
import { AccountsService } from '../accounts/accounts.service.js';
import { ValidationFailed } from '../platform/errors/problem.js';
import type { Page } from '../platform/http/pagination.js';
import {
  type ListCursor,
  type Listed,
  sessionCallMs,
  type SessionCallName,
  type SessionCalls,
} from './session-calls.js';

/** Longer than the instance takes, so that it is the one to say what came of it. */
const instanceTimeoutMs = sessionCallMs + 15_000;

/** Asks the WhatsApp Web page of an account, through the instance that drives it. */
@Injectable()
export class SessionCaller {
  constructor(private readonly accounts: AccountsService) {}

  /** @throws as {@link AccountsService.askSession}; PageSilent, or what the call is documented with */
  call<Name extends SessionCallName>(
    workspaceId: string,
    accountId: string,
    call: Name,
    ask: SessionCalls[Name]['ask'],
  ): Promise<SessionCalls[Name]['answer']> {
    return this.accounts.askSession(workspaceId, accountId, 'page', { call, ask }, instanceTimeoutMs);
  }
}

/**
 * A page of a list.
 * @param cursor the `nextCursor` of the page before
 * @throws ValidationFailed, and as {@link SessionCaller.call}
 */
export async function pageAfter<Item>(
  cursor: string | undefined,
  read: (after: ListCursor | null) => Promise<Listed<Item>>,
): Promise<Page<Item>> {
  const { items, next } = await read(cursor === undefined ? null : parseCursor(cursor));
  return { items, nextCursor: next && Buffer.from(`${next.t}:${next.id}`).toString('base64url') };
}

function parseCursor(cursor: string): ListCursor {
  const match = /^(\d{1,15}):(.{1,200})$/.exec(Buffer.from(cursor, 'base64url').toString());
  if (!match)
    throw new ValidationFailed([{ path: 'cursor', message: 'must be the nextCursor of the page before' }]);
  return { t: Number(match[1]), id: match[2]! };
}
