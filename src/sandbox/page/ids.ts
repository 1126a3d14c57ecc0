import { build } from './build.js';

const WID = /^(?:([\w.:-]+)@)(c\.us|lid|g\.us|s\.whatsapp\.net|broadcast|newsletter)$/;

/** The address of a chat or a user. */
export class Wid {
  declare readonly server: string;
  declare readonly user: string;
  declare readonly _serialized: string;

  constructor(user: string, server: string) {
    this.server = server;
    this.user = user;
    this._serialized = `${user}@${server}`;
  }

  isUser(): boolean {
    return this.server === 'c.us' || this.server === 'lid';
  }

  isRegularUser(): boolean {
    return this.isUser();
  }

  isLid(): boolean {
    return this.server === 'lid';
  }

  isGroup(): boolean {
    return this.server === 'g.us';
  }

  isStatus(): boolean {
    return this._serialized === 'status@broadcast';
  }

  isBroadcast(): boolean {
    return this.server === 'broadcast';
  }

  isNewsletter(): boolean {
    return this.server === 'newsletter';
  }

  isBot(): boolean {
    return false;
  }

  equals(other: { _serialized?: string } | undefined): boolean {
    return this._serialized === other?._serialized;
  }

  toJid(): string {
    return this.toString().replace('@c.us', '@s.whatsapp.net');
  }

  toString(): string {
    return this._serialized;
  }
}

/** An address: text, or an object that has it as text. */
export type WidLike = string | { _serialized: string };

/** Reads an address. */
export function createWid(input: WidLike | undefined): Wid {
  if (input instanceof Wid) return input;
  const text = typeof input === 'string' ? input : input?._serialized;
  const match = WID.exec(text ?? '');
  if (!match) throw new Error(`wid error: invalid wid ${text}`);
  // A match has both groups.
  const server = match[2] === 's.whatsapp.net' ? 'c.us' : match[2]!;
  return new Wid(match[1]!, server);
}

export function widOfPhone(phone: string): Wid {
  return new Wid(phone, 'c.us');
}

/** The anonymous address of a number; the simulation derives one from the other. */
export function lidOfPhone(phone: string): Wid {
  return new Wid(`1${[...phone].reverse().join('')}`, 'lid');
}

/** The number of a user, given by an address. */
export function phoneOfWid(wid: Wid): string {
  return wid.isLid() ? [...wid.user.slice(1)].reverse().join('') : wid.user;
}

/** The number of a user, given by any address. */
export function addressOfUser(user: WidLike): string {
  return phoneOfWid(createWid(user));
}

/** The address of a chat on the wire: the digits of a number, or the whole address of a group. */
export function addressOf(wid: Wid): string {
  return wid.isGroup() ? wid._serialized : phoneOfWid(wid);
}

/** Where a damaged build keeps the text of a key: a field that is not enumerable. */
const HIDDEN_TEXT = '#text';

/** The parts of a key: of a new message (`from`, `to`, `selfDir`) or of a known one (`fromMe`, `remote`). */
interface KeyParts {
  from?: Wid;
  to?: Wid;
  id: string;
  /** In a group: who wrote the message. */
  participant?: Wid | '' | undefined;
  selfDir?: 'in' | 'out';
  fromMe?: boolean;
  remote?: Wid;
}

/** The key of a message. `newId` may be replaced from outside to fix the id of the next message. */
export class MsgKey {
  declare readonly fromMe: boolean;
  declare readonly remote: Wid;
  declare readonly id: string;
  declare readonly participant?: Wid;
  /** The text of the key is an own, enumerable field, which builds name differently. */
  readonly [text: string]: unknown;

  constructor({ from, to, id, participant, selfDir, fromMe, remote }: KeyParts) {
    this.fromMe = fromMe ?? selfDir === 'out';
    // whatsapp-web.js gives `from` and `to` where it gives no `remote`.
    this.remote = remote ?? (this.fromMe ? to! : from!);
    this.id = id;
    if (participant) this.participant = participant;
    const text = [this.fromMe, this.remote, id, participant].filter((part) => part !== undefined).join('_');
    if (build.damage?.keysWithoutText) Object.defineProperty(this, HIDDEN_TEXT, { value: text });
    // An assignment, as in the real page: a setter of the prototype sees it.
    else (this as Record<string, unknown>)[build.keyField] = text;
  }

  equals(other: MsgKey | undefined): boolean {
    return this.toString() === other?.toString();
  }

  toString(): string {
    return String(this[build.damage?.keysWithoutText ? HIDDEN_TEXT : build.keyField]);
  }

  /** The key of a message that the server tells of; in a group it names who wrote it. */
  static ofEvent(
    remote: Wid,
    { fromMe, id, author }: { fromMe: boolean; id: string; author?: string | undefined },
    me: Wid,
  ): MsgKey {
    const participant = remote.isGroup() ? lidOfPhone(fromMe ? me.user : author!) : undefined;
    return new MsgKey({ fromMe, remote, id, participant });
  }

  static async newId(): Promise<string> {
    const bytes = crypto.getRandomValues(new Uint8Array(9));
    return `3EB0${hex(bytes).toUpperCase()}`;
  }

  static fromString(text: string): MsgKey {
    const [fromMe, remote, id, participant] = text.split('_');
    return new MsgKey({
      fromMe: fromMe === 'true',
      remote: createWid(remote),
      // Every key has an id, behind the address of the chat.
      id: id!,
      participant: participant && createWid(participant),
    });
  }
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

export function encodeB64(bytes: ArrayBuffer | Uint8Array<ArrayBuffer>): string {
  return btoa(String.fromCharCode(...new Uint8Array(bytes)));
}

export function decodeB64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}
