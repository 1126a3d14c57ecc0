import { Injectable } from '@nestjs/common';
import { AccountNotReady, AccountsService } from '../accounts/accounts.service.js';
import { InstanceClient } from '../instances/instance-client.js';
import { InstancesService } from '../instances/instances.service.js';
import { SessionChanging } from '../messages/message-actions.service.js';
import { Problem, ValidationFailed } from '../platform/errors/problem.js';
import type { Page } from '../platform/http/pagination.js';
import type { ListCursor, Listed, PageCallName, PageCalls } from './page-calls.js';

/** Longer than the page has for twenty participants, so that the instance is the one to say what came of it. */
const instanceTimeoutMs = 75_000;
/** Answers of an instance that mean it did nothing. */
const notHere = new Set(['account.session_not_ready', 'account.not_driven_here']);

/** Asks the WhatsApp Web page of an account, through the instance that drives it. */
@Injectable()
export class AccountPage {
  constructor(
    private readonly accounts: AccountsService,
    private readonly instances: InstancesService,
    private readonly instanceClient: InstanceClient,
  ) {}

  /**
   * @throws AccountNotFound, AccountNotReady, SessionChanging, InstanceUnreachable, InstanceAnswerLost, and what the instance
   * throws: PageSilent, or what the call is documented with
   */
  async call<Name extends PageCallName>(
    workspaceId: string,
    accountId: string,
    call: Name,
    ask: PageCalls[Name]['ask'],
  ): Promise<PageCalls[Name]['answer']> {
    const account = await this.accounts.get(workspaceId, accountId);
    if (account.status !== 'ready' || account.instanceId === null) throw new AccountNotReady(account);
    const { url } = await this.instances.get(account.instanceId);
    const path = `/internal/accounts/${account.id}/page`;
    const body = { epoch: account.epoch, call, ask };
    try {
      return await this.instanceClient.call<PageCalls[Name]['answer']>(
        url,
        'POST',
        path,
        body,
        instanceTimeoutMs,
      );
    } catch (error) {
      if (error instanceof Problem && notHere.has(error.code)) throw new SessionChanging();
      throw error;
    }
  }

  /** A page of a list. `cursor` is the `nextCursor` of the page before. @throws ValidationFailed, and as {@link call} */
  async list<Name extends 'chats' | 'contacts' | 'groups' | 'history'>(
    workspaceId: string,
    accountId: string,
    call: Name,
    { cursor, ...ask }: Omit<PageCalls[Name]['ask'], 'after'> & { cursor?: string },
  ): Promise<Page<PageCalls[Name]['answer']['items'][number]>> {
    const after = cursor === undefined ? null : parseCursor(cursor);
    const { items, next } = (await this.call(workspaceId, accountId, call, {
      ...ask,
      after,
    } as unknown as PageCalls[Name]['ask'])) as Listed<PageCalls[Name]['answer']['items'][number]>;
    return { items, nextCursor: next && Buffer.from(`${next.t}:${next.id}`).toString('base64url') };
  }
}

function parseCursor(cursor: string): ListCursor {
  const match = /^(\d{1,15}):(.{1,200})$/.exec(Buffer.from(cursor, 'base64url').toString());
  if (!match)
    throw new ValidationFailed([{ path: 'cursor', message: 'must be the nextCursor of the page before' }]);
  return { t: Number(match[1]), id: match[2]! };
}
