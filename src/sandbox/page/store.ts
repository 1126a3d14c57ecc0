import type { SubmittedContent } from '../wire/frames.js';

const NAME = 'whatsapp-sandbox';
const VERSION = 1;

/** How many messages an account keeps on disk. */
const KEEP = 5000;
const PRUNE_EVERY = 500;
/** Writes may wait this long, in larger batches, when the server would tell the same again after a crash. */
const SOON_MS = 100;

export interface KeyPair {
  pubKey: ArrayBuffer;
  privKey: CryptoKey;
}

/** What a page makes for itself before it is linked. */
export interface Keys {
  noise: KeyPair;
  identity: KeyPair;
  /** In base64. The phone reads it in the QR code. */
  advSecret: string;
}

/** What makes this browser a linked one. */
export interface Credential {
  id: string;
  phone: string;
  lid: string;
  name: string;
}

interface Profile {
  credential: Credential;
  keys: Keys;
}

/** A message as it is stored: small, and without anything that follows from the rest. */
export interface MessageRow {
  /** The text form of its key. */
  id: string;
  /** Its place in the order of all messages. */
  o: number;
  /** Its text. */
  b: string;
  /** Its type, in WhatsApp's words. */
  y: string;
  /** Seconds since 1970. */
  t: number;
  /** Its ack. */
  a: number;
  /** Has no ack. */
  p?: 1;
  /** The page gave its send up. */
  f?: 1;
  /** It was sent from this browser. */
  l?: 1;
  /** The sender's name. */
  n?: string;
  x?: SubmittedContent;
  g?: Notice;
  /** When it was edited, in milliseconds since 1970. */
  e?: number;
  /** When it was revoked, in milliseconds since 1970. */
  v?: number;
  /** The text form of the key that it had before it was revoked. */
  k?: string;
  /** It has a star. */
  s?: 1;
  /** By number: when the person got the message, and when the person read it, in seconds since 1970. */
  i?: Record<string, [delivered?: number, read?: number]>;
  /** By number: the last reaction, and its time in milliseconds since 1970. */
  r?: Record<string, { e: string; t: number }>;
  /** The last pin: how long it lasts (0: removed), and its time in milliseconds since 1970. */
  q?: { by: string; s: number; t: number };
  /** By number: the response to a scheduled event, and its time in milliseconds since 1970. */
  h?: Record<string, { c: number; t: number }>;
  /** When the scheduled event was changed, in milliseconds since 1970. */
  j?: number;
  /** By number: the options of a poll that are chosen, and the time in milliseconds since 1970. */
  w?: Record<string, { o: number[]; t: number }>;
}

/** What somebody did to a group, or that somebody has a new number. */
export interface Notice {
  change: string;
  /** The LIDs that it was done to. */
  whom: string[];
}

/** The database has a message with this key already. Like the error of the real page, it has no text. */
export class DuplicateMessageError extends Error {
  override name = 'DuplicateMessageError';
}

/** What is stored of a chat. */
export interface ChatRow {
  id: string;
  /** The place of the last message that the chat's owner has seen. */
  seen?: number;
  archive?: boolean;
  pin?: number | undefined;
  mute?: number;
}

/**
 * What the browser itself keeps: keys and credential, written through to the disk, and recent messages, written without
 * waiting for the disk but always before they go on the wire.
 */
export class Store {
  #db!: IDBDatabase;
  #rows = new Map<string, MessageRow>();
  /** The rows among those that must not be in the database yet. */
  #added = new Set<MessageRow>();
  /** The ids of rows to delete. */
  #gone = new Set<string>();
  #draining: Promise<void> | undefined;
  #soon: Promise<void> | undefined;
  #nextOrder = 1;
  #sincePrune = 0;

  static async open(): Promise<Store> {
    const store = new Store();
    const request = indexedDB.open(NAME, VERSION);
    request.onupgradeneeded = () => {
      request.result.createObjectStore('keys');
      const messages = request.result.createObjectStore('messages', { keyPath: 'id' });
      messages.createIndex('order', 'o');
      // Only rows that wait for ack 1 have a `p`, so only those are in this index.
      messages.createIndex('pending', 'p');
      request.result.createObjectStore('chats', { keyPath: 'id' });
    };
    store.#db = await done(request);
    return store;
  }

  /** Reads a key or the credential. */
  get<Name extends keyof Profile>(name: Name): Promise<Profile[Name] | undefined> {
    return done<Profile[Name] | undefined>(this.#db.transaction('keys').objectStore('keys').get(name));
  }

  /** Writes keys or the credential so that even a killed browser or a power cut does not lose them. */
  async put(entries: Partial<Profile>): Promise<void> {
    const transaction = this.#db.transaction('keys', 'readwrite', { durability: 'strict' });
    for (const [name, value] of Object.entries(entries)) {
      transaction.objectStore('keys').put(value, name);
    }
    await committed(transaction);
  }

  /** Forgets everything: after a logout the next page starts as a new device. */
  async wipe(): Promise<void> {
    await this.flush();
    const stores = ['keys', 'messages', 'chats'];
    const transaction = this.#db.transaction(stores, 'readwrite', { durability: 'strict' });
    for (const name of stores) transaction.objectStore(name).clear();
    await committed(transaction);
  }

  /** The newest rows and the older ones that wait for ack 1, oldest first; and what is stored of the chats. */
  async restore(limit: number): Promise<{ rows: MessageRow[]; chats: ChatRow[] }> {
    const transaction = this.#db.transaction(['messages', 'chats']);
    const messages = transaction.objectStore('messages');
    const [newest, pending, chats] = await Promise.all([
      newestRows(messages.index('order'), limit),
      done<MessageRow[]>(messages.index('pending').getAll()),
      done<ChatRow[]>(transaction.objectStore('chats').getAll()),
    ]);
    const rows = new Map<string, MessageRow>();
    for (const row of [...pending, ...newest]) rows.set(row.id, row);
    this.#nextOrder = (newest.at(-1)?.o ?? 0) + 1;
    return { rows: [...rows.values()].sort((a, b) => a.o - b.o), chats };
  }

  /** One row, even when it is too old to be in memory. */
  async find(id: string): Promise<MessageRow | undefined> {
    if (this.#gone.has(id)) return undefined;
    return (
      this.#rows.get(id) ??
      done<MessageRow | undefined>(this.#db.transaction('messages').objectStore('messages').get(id))
    );
  }

  /** The rows with keys that begin so. */
  async startingWith(prefixes: string[]): Promise<MessageRow[]> {
    await this.flush();
    const messages = this.#db.transaction('messages').objectStore('messages');
    const found = prefixes.map((prefix) =>
      done<MessageRow[]>(messages.getAll(IDBKeyRange.bound(prefix, `${prefix}\uffff`))),
    );
    return (await Promise.all(found)).flat();
  }

  /** The newest rows of a chat that are older than a place in the order, oldest first. */
  async before(order: number, chat: string, limit: number): Promise<MessageRow[]> {
    const range = order === Infinity ? null : IDBKeyRange.upperBound(order, true);
    const rows = await done<MessageRow[]>(
      this.#db.transaction('messages').objectStore('messages').index('order').getAll(range),
    );
    return rows.filter(({ id }) => id.split('_')[1] === chat).slice(-limit);
  }

  /** All rows of a chat, in any order. */
  async ofChat(chat: string): Promise<MessageRow[]> {
    await this.flush();
    const store = this.#db.transaction('messages').objectStore('messages');
    const ranges = [`true_${chat}_`, `false_${chat}_`].map((start) =>
      IDBKeyRange.bound(start, `${start}\uffff`),
    );
    return (await Promise.all(ranges.map((range) => done<MessageRow[]>(store.getAll(range))))).flat();
  }

  /** Deletes rows, also those that still wait to be written. */
  async remove(ids: string[]): Promise<void> {
    for (const id of ids) this.#rows.delete(id);
    // A write that has begun comes first.
    await this.flush();
    const transaction = this.#db.transaction('messages', 'readwrite', { durability: 'relaxed' });
    for (const id of ids) transaction.objectStore('messages').delete(id);
    await committed(transaction);
  }

  /** Rows that have these words in their text, newest first. */
  async search(words: string, chat: string | undefined): Promise<MessageRow[]> {
    await this.flush();
    const rows = chat
      ? await this.ofChat(chat)
      : await done<MessageRow[]>(this.#db.transaction('messages').objectStore('messages').getAll());
    const wanted = words.toLowerCase();
    const found = rows.filter(({ b, g, y }) => !g && y !== 'revoked' && b.toLowerCase().includes(wanted));
    return found.sort((one, other) => other.o - one.o);
  }

  /** The rows of a chat that somebody has pinned. */
  async pinned(chat: string): Promise<MessageRow[]> {
    await this.flush();
    const rows = await done<MessageRow[]>(this.#db.transaction('messages').objectStore('messages').getAll());
    return rows.filter(({ id, q }) => q && id.split('_')[1] === chat);
  }

  /** The place of a new message in the order of all messages of this account. */
  nextOrder(): number {
    return this.#nextOrder++;
  }

  /** Writes a row; rows of the same moment share a transaction. Resolves once it is committed. */
  save(row: MessageRow): Promise<void> {
    this.#rows.set(row.id, row);
    return this.flush();
  }

  /** Writes the row of a new message. @throws DuplicateMessageError */
  async add(row: MessageRow): Promise<void> {
    if (this.#rows.has(row.id)) throw new DuplicateMessageError();
    this.#rows.set(row.id, row);
    this.#added.add(row);
    await this.flush();
    if (this.#added.delete(row)) throw new DuplicateMessageError();
  }

  /** Writes a row with others a little later. */
  saveSoon(row: MessageRow): void {
    this.#rows.set(row.id, row);
    this.#gone.delete(row.id);
    void this.flushSoon();
  }

  /** Writes a row in the place of the row with another id. */
  replaceSoon(id: string, row: MessageRow): void {
    this.#rows.delete(id);
    this.#gone.add(id);
    this.saveSoon(row);
  }

  /** Resolves once everything that was saved before is committed. */
  flush(): Promise<void> {
    this.#draining ??= this.#drain();
    return this.#draining;
  }

  /** The same, a little later. */
  flushSoon(): Promise<void> {
    this.#soon ??= new Promise((resolve) => setTimeout(resolve, SOON_MS)).then(() => {
      this.#soon = undefined;
      return this.flush();
    });
    return this.#soon;
  }

  /** Writes what is to be remembered of a chat. */
  async saveChat(chat: ChatRow): Promise<void> {
    const transaction = this.#db.transaction('chats', 'readwrite', { durability: 'relaxed' });
    transaction.objectStore('chats').put(chat);
    await committed(transaction);
  }

  async removeChat(id: string): Promise<void> {
    const transaction = this.#db.transaction('chats', 'readwrite', { durability: 'relaxed' });
    transaction.objectStore('chats').delete(id);
    await committed(transaction);
  }

  async #drain(): Promise<void> {
    try {
      // Rows that are saved in the same moment go along.
      await Promise.resolve();
      while (this.#rows.size > 0) {
        const [rows, gone] = [this.#rows, this.#gone];
        this.#rows = new Map();
        this.#gone = new Set();
        const transaction = this.#db.transaction('messages', 'readwrite', { durability: 'relaxed' });
        const messages = transaction.objectStore('messages');
        const added = [...rows.values()].filter((row) => this.#added.has(row));
        for (const id of gone) messages.delete(id);
        for (const row of rows.values()) {
          if (added.includes(row)) this.#addTo(messages, row);
          else messages.put(row);
        }
        this.#sincePrune += rows.size;
        const done = committed(transaction);
        // Pruning has more requests to come. A request that may fail needs its listener, or the whole transaction fails with it.
        if (this.#sincePrune >= PRUNE_EVERY) this.#prune(messages);
        else if (added.length === 0) transaction.commit();
        await done;
      }
    } finally {
      this.#draining = undefined;
    }
  }

  /** A row that was already there stays as it is, and the others of the transaction are written. */
  #addTo(messages: IDBObjectStore, row: MessageRow): void {
    const request = messages.add(row);
    request.onsuccess = () => this.#added.delete(row);
    request.onerror = (event) => {
      event.preventDefault();
      event.stopPropagation();
    };
  }

  #prune(messages: IDBObjectStore): void {
    this.#sincePrune = 0;
    const tooOld = IDBKeyRange.upperBound(this.#nextOrder - KEEP, true);
    const request = messages.index('order').getAllKeys(tooOld);
    request.onsuccess = () => {
      for (const key of request.result) messages.delete(key);
    };
  }
}

function newestRows(index: IDBIndex, limit: number): Promise<MessageRow[]> {
  return new Promise((resolve, reject) => {
    const last = index.openKeyCursor(null, 'prev');
    last.onerror = () => reject(last.error);
    last.onsuccess = () => {
      if (!last.result) return resolve([]);
      // The keys of this index are numbers.
      const range = IDBKeyRange.lowerBound((last.result.key as number) - limit, true);
      done<MessageRow[]>(index.getAll(range)).then(resolve, reject);
    };
  });
}

function done<T>(request: IDBRequest<T> & { onblocked?: unknown }): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error('The page is open twice with different versions.'));
  });
}

function committed(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? new Error('The browser could not store this.'));
  });
}
