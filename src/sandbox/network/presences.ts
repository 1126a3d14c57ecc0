import { Injectable } from '@nestjs/common';
import { isGroupId } from '../addresses.js';
import { PhoneRegistry } from './phones.js';
import type { PresenceFrame, PresenceState } from './presence.js';

/** Who is online, and which chats each account watches. It does not survive a restart, as in WhatsApp. */
@Injectable()
export class Presences {
  private readonly online = new Set<string>();
  private readonly lastSeen = new Map<string, number>();
  /** By account: the watched chats. */
  private readonly watched = new Map<string, Set<string>>();

  constructor(private readonly phones: PhoneRegistry) {}

  /** An account watches a chat from now on. @returns what it hears at once: nothing of a group */
  watch(account: string, of: string): PresenceFrame | null {
    const chats = this.watched.get(account) ?? new Set();
    this.watched.set(account, chats.add(of));
    return isGroupId(of) || !this.phones.find(of) ? null : this.frameOf(of);
  }

  /** The owner of a phone goes online or offline. @returns the frames for the accounts that watch the phone */
  change(phone: string, isOnline: boolean): { to: string; frame: PresenceFrame }[] {
    if (isOnline) this.online.add(phone);
    else if (this.online.delete(phone)) this.lastSeen.set(phone, Math.floor(Date.now() / 1000));
    return this.watchersOf(phone).map((to) => ({ to, frame: this.frameOf(phone) }));
  }

  /** The owner of a phone types or records in a chat, or stops. @returns the frames for the accounts that watch the chat */
  type(phone: string, to: string, type: PresenceState): { to: string; frame: PresenceFrame }[] {
    const isGroup = isGroupId(to);
    const frame: PresenceFrame = isGroup
      ? { t: 'presence', of: to, by: phone, type, lastSeen: null }
      : { t: 'presence', of: phone, type: type === 'paused' ? 'available' : type, lastSeen: null };
    return this.watchersOf(isGroup ? to : phone)
      .filter((account) => (isGroup ? account !== phone : account === to))
      .map((account) => ({ to: account, frame }));
  }

  private watchersOf(of: string): string[] {
    return [...this.watched].filter(([, chats]) => chats.has(of)).map(([account]) => account);
  }

  private frameOf(phone: string): PresenceFrame {
    const isOnline = this.online.has(phone);
    const hides = this.phones.find(phone)?.hidesLastSeen === true;
    const lastSeen = isOnline || hides ? null : (this.lastSeen.get(phone) ?? null);
    return { t: 'presence', of: phone, type: isOnline ? 'available' : 'unavailable', lastSeen };
  }
}
