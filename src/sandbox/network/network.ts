import { mkdir } from 'node:fs/promises';
import { NotFoundException } from '@nestjs/common';
import { Companions } from '../wire/online-browsers.js';
import { Delivery } from './delivery.js';
import { FaultBoard, type Faults } from './faults.js';
import { GroupActions } from './group-actions.js';
import { GroupBook } from './groups.js';
import { InFlight } from '../wire/in-flight.js';
import { Ledger, type LedgerEntry } from '../journal/ledger.js';
import type { SandboxLogger } from '../options.js';
import { MediaVault } from './media.js';
import { Outbox } from '../journal/outbox.js';
import { Pairing } from '../wire/linking.js';
import { type Credential, type Phone, PhoneBook } from './phones.js';
import { Pictures } from './pictures.js';

/** Counters of the sandbox. */
export interface SandboxStats {
  phones: number;
  linked: number;
  online: number;
  accepted: number;
  duplicates: number;
  actions: number;
  /** How often a browser showed somebody that it types, that it records, and that it does so no more. */
  typing: number;
  recording: number;
  paused: number;
  /** Frames of browsers that the fault `silent` dropped. */
  unheard: number;
  /** How often the fault `reloadAfterSendRate` had a page reloaded. */
  reloads: number;
  conflicts: number;
  /** The most messages of one sender that were on their way at the same time, without an ack. */
  maxInFlight: number;
  offlineQueued: number;
  offlineDropped: number;
  unknownModules: Record<string, number>;
}

const MAX_UNKNOWN_MODULES = 200;
const NO_CHAT_STATES = { composing: 0, recording: 0, paused: 0 };

/** The simulated WhatsApp behind the pages: phones, what was sent, and who is connected. */
export class SandboxNetwork {
  readonly faults = new FaultBoard();
  readonly inFlight = new InFlight();
  readonly pairing: Pairing;
  readonly companions: Companions;
  readonly delivery: Delivery;
  readonly groupActions: GroupActions;
  /** How often browsers showed each, by WhatsApp's words. */
  chatStates: Record<string, number> = { ...NO_CHAT_STATES };
  unheard = 0;
  reloads = 0;
  private readonly unknownModules = new Map<string, number>();

  private constructor(
    readonly phones: PhoneBook,
    readonly groups: GroupBook,
    readonly pictures: Pictures,
    readonly ledger: Ledger,
    readonly outbox: Outbox,
    readonly media: MediaVault,
    readonly logger: SandboxLogger,
  ) {
    this.pairing = new Pairing(phones, this.faults);
    this.companions = new Companions(outbox, logger);
    this.delivery = new Delivery(phones, groups, ledger, outbox, this.companions, this.faults);
    this.groupActions = new GroupActions(phones, groups, outbox, this.companions);
  }

  /** Restores everything from `dir`, as a previous process left it, killed or not. */
  static async open(dir: string, logger: SandboxLogger): Promise<SandboxNetwork> {
    await mkdir(dir, { recursive: true });
    const phones = await PhoneBook.open(dir);
    const groups = await GroupBook.open(dir);
    const outbox = await Outbox.open(dir);
    const handedOut = outbox.lastSeq;
    const missed: LedgerEntry[] = [];
    const ledger = await Ledger.open(dir, (entry) => {
      if (entry.seq > handedOut) missed.push(entry);
    });
    const pictures = new Pictures(dir);
    const media = await MediaVault.open(dir);
    const network = new SandboxNetwork(phones, groups, pictures, ledger, outbox, media, logger);
    for (const entry of missed) network.delivery.handOut(entry);
    return network;
  }

  /** Replaces the faults of one phone, or of everybody. */
  putFaults(faults: Partial<Faults>, phone?: string): Faults {
    const inForce = this.faults.put(faults, phone);
    if (inForce.offline) this.companions.cut(phone);
    this.companions.applyFaults(phone);
    return inForce;
  }

  /** Removes the faults of everybody and of every phone. */
  clearFaults(): void {
    this.faults.clear();
    this.companions.applyFaults(undefined);
  }

  /** Where the page of web.whatsapp.com finds the picture of a phone or a group; null when it has none. */
  pictureOf(address: string): { eurl: string } | null {
    const picture = (this.groups.find(address) ?? this.phones.find(address))?.picture;
    return picture ? { eurl: `https://web.whatsapp.com/pictures/${picture}` } : null;
  }

  /** Unlinks a browser: its page, now or when it comes back, logs out. */
  async unlink(credential: Credential): Promise<void> {
    await this.phones.unlink(credential.id);
    this.outbox.drop(credential.id);
    this.companions.connectionOf(credential.id)?.refuse('unlinked');
  }

  /** Unlinks all browsers of a phone, as its owner does under "linked devices". */
  async unlinkAll(phone: Phone): Promise<number> {
    const credentials = [...this.phones.companionsOf(phone.phone)];
    if (credentials.length === 0) {
      throw new NotFoundException(
        `No browser is linked to ${phone.phone}: link one with POST /phones/${phone.phone}/scan.`,
      );
    }
    await Promise.all(credentials.map((credential) => this.unlink(credential)));
    return credentials.length;
  }

  /** Empties the ledger with the media of its messages, and resets the counters. */
  async clearLedger(): Promise<void> {
    await this.ledger.clear();
    this.outbox.ledgerCleared();
    this.companions.conflicts = 0;
    this.chatStates = { ...NO_CHAT_STATES };
    this.unheard = 0;
    this.reloads = 0;
    this.inFlight.clear();
    this.unknownModules.clear();
    await this.media.clear();
  }

  /** Counts what a browser shows the other side of a chat. */
  sawChatState(state: string): void {
    if (Object.hasOwn(this.chatStates, state)) this.chatStates[state]! += 1;
  }

  /** Counts a module that whatsapp-web.js asked for and the page does not have. */
  unknownModule(name: string): void {
    const known = this.unknownModules.get(name);
    if (known === undefined) {
      if (this.unknownModules.size >= MAX_UNKNOWN_MODULES) return;
      this.logger.warn({ module: name }, 'the sandbox page lacks a module');
    }
    this.unknownModules.set(String(name).slice(0, 100), (known ?? 0) + 1);
  }

  /** The counters. */
  stats(): SandboxStats {
    return {
      phones: this.phones.size,
      linked: this.phones.linkedCount,
      online: this.companions.onlineCount,
      accepted: this.ledger.accepted,
      duplicates: this.ledger.duplicates,
      actions: this.ledger.actions,
      typing: this.chatStates.composing ?? 0,
      recording: this.chatStates.recording ?? 0,
      paused: this.chatStates.paused ?? 0,
      unheard: this.unheard,
      reloads: this.reloads,
      conflicts: this.companions.conflicts,
      maxInFlight: this.inFlight.max,
      offlineQueued: this.outbox.size,
      offlineDropped: this.outbox.dropped,
      unknownModules: Object.fromEntries(this.unknownModules),
    };
  }

  /** Writes what is left and closes the files. */
  async close(): Promise<void> {
    await Promise.all([this.ledger.close(), this.outbox.close(), this.phones.close(), this.groups.close()]);
  }
}
