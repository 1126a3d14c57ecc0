import type { Dialog, Faults } from './faults.js';

/** All dialogs of the simulated page. */
export const DIALOGS: readonly Dialog[] = ['whats_new', 'terms'];

/** A sandbox without faults. */
export const NO_FAULTS: Readonly<Faults> = {
  ackDelayMs: 0,
  receiptDelayMs: 0,
  dropAckRate: 0,
  refuseRate: 0,
  sendFailRate: 0,
  disconnectRate: 0,
  syncDelayMs: 0,
  earlySync: false,
  dialog: null,
  deliverAcks: true,
  readAcks: true,
  offline: false,
  silent: false,
  doubleIncoming: false,
  reloadBeforeSendRate: 0,
  reloadAfterSendRate: 0,
  resumesSends: false,
  uploadFailRate: 0,
  downloadFailRate: 0,
  uploadDelayMs: 0,
  groupRefusal: null,
  inviteLifetimeMs: 3 * 24 * 3_600_000,
  checkRefusal: null,
  hiddenChats: false,
  messagesInMemory: 2000,
  editWindowMs: 15 * 60_000,
  revokeWindowMs: 60 * 3_600_000,
  oldestVersion: null,
  updateLoop: false,
  qrLifetimeMs: 10_000,
  newChatNotice: true,
  revokedNamesOldKey: true,
};

/** The faults in force: general ones, and overrides for single phones. They do not survive a restart. */
export class FaultSettings {
  private general: Faults = NO_FAULTS;
  private readonly overrides = new Map<string, Partial<Faults>>();
  private readonly listeners: ((phone: string | undefined) => void)[] = [];

  /** Calls `listener` after every change, with the phone that it concerns; undefined means all phones. */
  onChange(listener: (phone: string | undefined) => void): void {
    this.listeners.push(listener);
  }

  /** Replaces the overrides of one phone, or the general faults. Faults that are left out are removed. */
  put(faults: Partial<Faults>, phone?: string): Faults {
    const named = Object.fromEntries(
      Object.entries(faults).filter(([, value]) => value !== undefined),
    ) as Partial<Faults>;
    if (phone === undefined) this.general = { ...NO_FAULTS, ...named };
    else this.overrides.set(phone, named);
    this.changed(phone);
    return this.of(phone);
  }

  /** Removes all faults and overrides. */
  clear(): void {
    this.general = NO_FAULTS;
    this.overrides.clear();
    this.changed(undefined);
  }

  /** The faults for a phone's browsers and messages. */
  of(phone: string | undefined): Faults {
    const own = phone === undefined ? undefined : this.overrides.get(phone);
    return own ? { ...this.general, ...own } : this.general;
  }

  private changed(phone: string | undefined): void {
    for (const listener of this.listeners) listener(phone);
  }
}
