/** A simulated browser session, for benchmarks without browsers. */
import { EventEmitter } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** The milliseconds that a simulated session needs to open, to become ready after that, to send, and to close. */
const openMs = 5;
const syncMs = 5;
const sendMs = 5;
const closeMs = 2;

/** @typedef {import('#dist/src/whatsapp/session-events.js').SessionEvents} SessionEvents */
/** @typedef {import('#dist/src/whatsapp/session-events.js').SessionOptions} SessionOptions */
/** @typedef {import('#dist/src/whatsapp/whatsapp-session.js').WhatsAppSession} WhatsAppSession */
/** @typedef {'open' | 'linked' | 'ready' | 'close'} Noted */

/**
 * Opens a simulated session in place of a WhatsAppSession.
 *
 * @param {SessionOptions} options
 * @param {(event: Noted, accountId: string) => void} [note] called when something happens
 */
export const openSimulatedSession = (options, note) =>
  /** @type {WhatsAppSession} */ (/** @type {unknown} */ (new SimulatedSession(options, note)));

/**
 * The part of a WhatsAppSession that an AccountDriver uses. Its credentials are a file in the profile.
 *
 * @extends {EventEmitter<SessionEvents>}
 */
class SimulatedSession extends EventEmitter {
  ready = false;
  ended = false;
  isOpen = false;
  /** @type {Promise<void> | null} */
  closing = null;
  /** No messages come in. */
  messages = {
    acksOf: () => Promise.resolve([]),
    recentIncoming: () => Promise.resolve([]),
    recentChanges: () => Promise.resolve([]),
    reactionsTo: () => Promise.resolve([]),
    recentNotices: () => Promise.resolve([]),
    recentCalls: () => Promise.resolve([]),
  };

  /**
   * @param {SessionOptions} options
   * @param {(event: Noted, accountId: string) => void} [note]
   */
  constructor({ accountId, profileDir, canStart }, note) {
    super();
    this.accountId = accountId;
    this.profileDir = profileDir;
    this.canStart = canStart;
    this.note = (/** @type {Noted} */ event) => note?.(event, accountId);
  }

  async start() {
    if (this.ended) return;
    if (!this.canStart()) throw new Error('the lease of this instance does not hold');
    this.isOpen = true;
    this.note('open');
    await delay(openMs);
    if (this.ended) return;
    this.useCredentials();
    this.emit('syncing');
    setTimeout(() => this.becomeReady(), syncMs);
  }

  /** Ends the session. Returns when a real browser would be gone. */
  async stop() {
    this.ended = true;
    this.ready = false;
    if (this.isOpen) await (this.closing ??= this.close());
  }

  /** Acknowledges every message. @param {{ whatsappId: string }} message */
  async send({ whatsappId }) {
    await delay(sendMs);
    return { outcome: 'known', ack: 1, whatsappId };
  }

  memoryBytes() {
    return Promise.resolve(0);
  }

  async close() {
    await delay(closeMs);
    this.note('close');
  }

  /** Writes the credentials when they are missing. An account must be linked only once. */
  useCredentials() {
    const credentials = join(this.profileDir, 'Default', 'credentials');
    if (existsSync(credentials)) return;
    mkdirSync(join(this.profileDir, 'Default'), { recursive: true });
    writeFileSync(credentials, this.accountId);
    this.note('linked');
  }

  becomeReady() {
    if (this.ended) return;
    this.ready = true;
    this.note('ready');
    this.emit('ready', { phoneNumber: null, lid: null });
  }
}
