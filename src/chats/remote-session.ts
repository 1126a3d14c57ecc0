import { Injectable } from '@nestjs/common';
import { AccountsService } from '../accounts/accounts.service.js';
import { ValidationFailed } from '../platform/errors/problem.js';
import type { Page } from '../platform/http/pagination.js';
import {
  type ListCursor,
  type ListPage,
  sessionCallMs,
  type SessionCallName,
  type SessionCalls,
} from './session-calls.js';

/** Longer than the timeout of the instance, so that the instance reports the outcome. */
const instanceTimeoutMs = sessionCallMs + 15_000;

/** The API side of {@link SessionCalls}: calls the WhatsApp Web page of an account, through the instance that drives it. */
@Injectable()
export class RemoteSession {
  constructor(private readonly accounts: AccountsService) {}

  /** @throws as {@link AccountsService.askSession}; PageSilent, or the documented errors of the call */
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
 * Reads a page of a list.
 * @param cursor the `nextCursor` of the page before
 * @throws ValidationFailed, and as {@link RemoteSession.call}
 */
export async function pageAfter<Item>(
  cursor: string | undefined,
  read: (after: ListCursor | null) => Promise<ListPage<Item>>,
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
