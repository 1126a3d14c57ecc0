/** What stands for a browser session where there are no browsers. */
import { EventEmitter } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** How long the stand-in takes, in milliseconds: to come up, to become ready then, to send, and to close. */
const openMs = 5;
const syncMs = 5;
const sendMs = 5;
const closeMs = 2;

/** What an AccountDriver needs of a WhatsAppSession. Its credentials are a file in the profile, as a browser's are. */
export class SimulatedSession extends EventEmitter {
  ready = false;
  ended = false;
  isOpen = false;
  closing = null;
  /** Nothing came while nobody listened. */
  messages = {
    acksOf: async () => [],
    recentIncoming: async () => [],
    recentChanges: async () => [],
    reactionsTo: async () => [],
    recentNotices: async () => [],
  };

  /**
   * @param {import('../dist/src/whatsapp/session-events.js').SessionOptions} options
   * @param {(event: 'open' | 'linked' | 'ready' | 'close', accountId: string) => void} note told what happens
   */
  constructor({ accountId, profileDir, canStart }, note = () => undefined) {
    super();
    Object.assign(this, { accountId, profileDir, canStart });
    this.note = (event) => note(event, accountId);
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

  /** Ends the session; returns when its browser would be gone. */
  async stop() {
    this.ended = true;
    this.ready = false;
    if (this.isOpen) await (this.closing ??= this.close());
  }

  /** Nobody receives it: WhatsApp acknowledges everything. */
  async send({ whatsappId }) {
    await delay(sendMs);
    return { outcome: 'known', ack: 1, whatsappId };
  }

  async memoryBytes() {
    return 0;
  }

  async close() {
    await delay(closeMs);
    this.note('close');
  }

  /** Without its credentials an account has to be linked by a person: that is to happen once. */
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
