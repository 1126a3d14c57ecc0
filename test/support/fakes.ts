import { EventEmitter } from 'node:events';
import { MediaStorageUnavailable } from '../../src/media/media-storage.js';
import type { MessageFiles } from '../../src/sending/message-files.js';
import type { RecipientChecks } from '../../src/sending/recipient-checks.js';
import type { MessageSender } from '../../src/sending/message-sender.js';
import type { AccountDriver } from '../../src/sessions/account-driver.js';
import type { AccountSessionEvents, AccountSessions } from '../../src/sessions/account-sessions.js';
import type { Account } from '../../src/accounts/account.entity.js';
import type { SessionEvents } from '../../src/whatsapp/session-events.js';
import type { WhatsAppSession } from '../../src/whatsapp/whatsapp-session.js';
import { fake } from './fake.js';

/** The sessions of an instance, of which every account has this one; a test emits what they tell. */
export function sessionsWith(
  session: Partial<WhatsAppSession>,
  driver: Partial<AccountDriver> = {},
): AccountSessions {
  const driven = fake<AccountDriver>({
    current: fake<WhatsAppSession>({ ready: true, ...session }),
    ...driver,
  });
  const events = new EventEmitter<AccountSessionEvents>();
  const sessions: AccountSessions = fake<AccountSessions>({
    readyDriver: () => driven,
    sendingDriver: () => driven,
    driver: () => driven,
    countSend: () => undefined,
    on: (name, listener) => {
      events.on(name, listener);
      return sessions;
    },
    emit: (name, ...told) => events.emit(name, ...told),
  });
  return sessions;
}

/** Starts a session of an account. @returns its events, for the test to emit */
export function startSession(sessions: AccountSessions, account: Account): EventEmitter<SessionEvents> {
  const events = new EventEmitter<SessionEvents>();
  const session: WhatsAppSession = fake<WhatsAppSession>({
    on: (name, listener) => {
      events.on(name, listener);
      return session;
    },
  });
  sessions.emit('session', account, session);
  return events;
}

/** Sends for any account, as the test says. */
export function senderThat(send: MessageSender['send']): MessageSender {
  return fake<MessageSender>({ requireReady: () => undefined, hasJustSent: () => false, send });
}

/** The files of messages while the storage is away. */
export const filesAway = fake<MessageFiles>({
  copyOf: () => Promise.reject(new MediaStorageUnavailable(new Error('The storage is away.'))),
});

/** The files of messages for a test that sends none. */
export const noFiles = fake<MessageFiles>({});

/** WhatsApp throttles no number checks. */
export const allowedChecks = fake<RecipientChecks>({
  until: () => null,
  idsOf: async (_accountId, chatIds) => chatIds,
});
