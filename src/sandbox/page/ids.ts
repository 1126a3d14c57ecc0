const WID = /^(?:([\w.:-]+)@)(c\.us|lid|g\.us|s\.whatsapp\.net|broadcast|newsletter)$/;

/** The address of a chat or a user. */
export class Wid {
  constructor(user, server) {
    this.server = server;
    this.user = user;
    this._serialized = `${user}@${server}`;
  }

  isUser() {
    return this.server === 'c.us' || this.server === 'lid';
  }

  isRegularUser() {
    return this.isUser();
  }

  isLid() {
    return this.server === 'lid';
  }

  isGroup() {
    return this.server === 'g.us';
  }

  isStatus() {
    return this._serialized === 'status@broadcast';
  }

  isBroadcast() {
    return this.server === 'broadcast';
  }

  isNewsletter() {
    return this.server === 'newsletter';
  }

  isBot() {
    return false;
  }

  equals(other) {
    return this._serialized === other?._serialized;
  }

  toJid() {
    return this.toString().replace('@c.us', '@s.whatsapp.net');
  }

  toString() {
    return this._serialized;
  }
}

/** Reads an address, given as text or as anything that looks like an address. */
export function createWid(input) {
  if (input instanceof Wid) return input;
  const text = typeof input === 'string' ? input : input?._serialized;
  const match = WID.exec(text ?? '');
  if (!match) throw new Error(`wid error: invalid wid ${text}`);
  const server = match[2] === 's.whatsapp.net' ? 'c.us' : match[2];
  return new Wid(match[1], server);
}

export function widOfPhone(phone) {
  return new Wid(phone, 'c.us');
}

/** The anonymous address of a number; the simulation derives one from the other. */
export function lidOfPhone(phone) {
  return new Wid(`1${[...phone].reverse().join('')}`, 'lid');
}

/** The number behind an address of a user. */
export function phoneOfWid(wid) {
  return wid.isLid() ? [...wid.user.slice(1)].reverse().join('') : wid.user;
}

/** The number behind whatever names a user. */
export function addressOfUser(user) {
  return phoneOfWid(createWid(user));
}

/** The wire's name of a chat: a number's digits, or the whole address of a group. */
export function addressOf(wid) {
  return wid.isGroup() ? wid._serialized : phoneOfWid(wid);
}

/** The key of a message. `newId` may be replaced from outside to fix the id of the next message. */
export class MsgKey {
  constructor({ from, to, id, participant, selfDir, fromMe, remote }) {
    this.fromMe = fromMe ?? selfDir === 'out';
    this.remote = remote ?? (this.fromMe ? to : from);
    this.id = id;
    if (participant) this.participant = participant;
    this._serialized = [this.fromMe, this.remote, id, participant]
      .filter((part) => part !== undefined)
      .join('_');
  }

  equals(other) {
    return this._serialized === other?._serialized;
  }

  toString() {
    return this._serialized;
  }

  /** The key of a message that the server tells of; in a group it names who wrote it. */
  static ofEvent(remote, { fromMe, id, author }, me) {
    const participant = remote.isGroup() ? lidOfPhone(fromMe ? me.user : author) : undefined;
    return new MsgKey({ fromMe, remote, id, participant });
  }

  static async newId() {
    const bytes = crypto.getRandomValues(new Uint8Array(9));
    return `3EB0${hex(bytes).toUpperCase()}`;
  }

  static fromString(text) {
    const [fromMe, remote, id, participant] = text.split('_');
    return new MsgKey({
      fromMe: fromMe === 'true',
      remote: createWid(remote),
      id,
      participant: participant && createWid(participant),
    });
  }
}

function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

export function encodeB64(bytes) {
  return btoa(String.fromCharCode(...new Uint8Array(bytes)));
}

export function decodeB64(text) {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}
