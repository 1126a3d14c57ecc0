import { InstanceAnswerLost, InstanceRefused, InstanceUnreachable } from '../instances/instance-client.js';
import { InstanceNotFound } from '../instances/instances.service.js';
import { Problem } from '../platform/errors/problem.js';
import type { Account } from './account.entity.js';

export class AccountNotFound extends Problem {
  constructor(id: string) {
    super(404, 'account.not_found', `This workspace has no account ${id}.`);
  }
}

export class AccountNotReady extends Problem {
  constructor(account: Account) {
    super(
      409,
      'account.not_ready',
      `The account is ${account.status}, not ready. Connect it first: POST /accounts/${account.id}/connect.`,
    );
  }
}

/** The row says that the account is ready, and its instance that the session is not, or is elsewhere by now. */
export class SessionChanging extends Problem {
  constructor() {
    super(
      409,
      'account.not_ready',
      'The session of the account is being started or moved at this moment. Try again when the account is ready.',
    );
  }
}

/** The instance that was asked does not own the account, or not any more: nothing was done. */
export class AccountNotDrivenHere extends Problem {
  constructor(id: string, epoch?: number) {
    super(
      409,
      'account.not_driven_here',
      `This instance does not drive account ${id}${epoch === undefined ? '' : ` at epoch ${epoch}`}.`,
    );
  }
}

/** The instance owns the account, and its browser is not there yet: nothing was done. */
export class SessionNotReady extends Problem {
  constructor(id: string) {
    super(503, 'account.session_not_ready', `The session of account ${id} is not ready on its instance yet.`);
  }
}

/** Codes by which an instance says that it did nothing, since it does not have the session. */
export const nothingDoneCodes = new Set(['account.session_not_ready', 'account.not_driven_here']);

/** What may happen when the session of an account is asked, through the instance that drives it. */
export const sessionProblems = [
  AccountNotFound,
  AccountNotReady,
  InstanceNotFound,
  InstanceUnreachable,
  InstanceRefused,
  InstanceAnswerLost,
];
