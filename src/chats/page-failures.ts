import { AccountNotFound, AccountNotReady } from '../accounts/accounts.service.js';
import { InstanceAnswerLost, InstanceRefused, InstanceUnreachable } from '../instances/instance-client.js';
import { InstanceNotFound } from '../instances/instances.service.js';
import { PageSilent } from './page-errors.js';

/** What may happen when the page of an account is asked. */
export const ofPages = [
  AccountNotFound,
  AccountNotReady,
  InstanceNotFound,
  InstanceUnreachable,
  InstanceRefused,
  InstanceAnswerLost,
  PageSilent,
];
