import { Problem } from '../platform/errors/problem.js';

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
