import { InstanceAnswerLost, InstanceRefused, InstanceUnreachable } from '../instances/instance-client.js';
import { InstanceNotFound } from '../instances/instances.service.js';
import { Problem } from '../platform/errors/problem.js';
import type { Account } from './account.entity.js';

export class AccountNotFound extends Problem {
  constructor(id: string) {
    super(404, 'account.not_found', `This workspace has no account ${id}. GET /accounts lists its accounts.`);
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

/** The row says that the account is ready, but the instance says that the session is not ready or is on another instance. */
export class SessionChanging extends Problem {
  constructor() {
    super(
      409,
      'account.not_ready',
      'The session of the account is starting, or moving to another instance. Try again when the account is ready.',
    );
  }
}

/** The called instance does not own the account, or no longer owns it. It did nothing. */
export class AccountNotDrivenHere extends Problem {
  constructor(id: string, epoch?: number) {
    super(
      409,
      'account.not_driven_here',
      `This instance does not drive account ${id}${epoch === undefined ? '' : ` at epoch ${epoch}`}.`,
    );
  }
}

/** The instance owns the account, but its browser is not ready yet. The instance did nothing. */
export class SessionNotReady extends Problem {
  constructor(id: string) {
    super(
      503,
      'account.session_not_ready',
      `The session of account ${id} is not ready on its instance yet. Try again when the account is ready.`,
    );
  }
}

/** The page of the account lacks what sending needs. The instance did nothing. */
export class WebIncompatible extends Problem {
  constructor(reason: string) {
    super(
      409,
      'account.web_incompatible',
      `The page of WhatsApp Web lacks what sending needs (${reason}). Messages wait until it is mended: docs/whatsapp-web.md says what to do.`,
    );
  }
}

/** The codes of an instance that did nothing, because it does not have the session, or may not use it. */
export const nothingDoneCodes = new Set([
  'account.session_not_ready',
  'account.not_driven_here',
  'account.web_incompatible',
]);
/** Of these, the codes that mean that the session starts or moves. */
export const sessionChangingCodes = new Set(['account.session_not_ready', 'account.not_driven_here']);

/** The problems of a call to an account's session, through the instance that drives it. */
export const sessionProblems = [
  AccountNotFound,
  AccountNotReady,
  InstanceNotFound,
  InstanceUnreachable,
  InstanceRefused,
  InstanceAnswerLost,
];
