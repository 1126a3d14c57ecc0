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
  /** Waits for ack 1. */
  p?: 1;
  /** The sender's name. */
  n?: string;
  x?: SubmittedContent;
  g?: Notice;
  /** When it was edited, in milliseconds since 1970. */
  e?: number;
  /** When it was revoked, in milliseconds since 1970. */
  v?: number;
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

/** What somebody did to a group. */
export interface Notice {
  change: string;
  /** The LIDs that it was done to. */
  whom: string[];
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
    return (
      this.#rows.get(id) ??
      done<MessageRow | undefined>(this.#db.transaction('messages').objectStore('messages').get(id))
    );
  }

  /** The newest rows of a chat that are older than a place in the order, oldest first. */
  async before(order: number, chat: string, limit: number): Promise<MessageRow[]> {
    const range = order === Infinity ? null : IDBKeyRange.upperBound(order, true);
    const rows = await done<MessageRow[]>(
      this.#db.transaction('messages').objectStore('messages').index('order').getAll(range),
    );
    return rows.filter(({ id }) => id.split('_')[1] === chat).slice(-limit);
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

  /** Writes a row with others a little later. */
  saveSoon(row: MessageRow): void {
    this.#rows.set(row.id, row);
    void this.flushSoon();
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

  /** The rows of a chat that somebody has pinned. */
  async pinned(chat: string): Promise<MessageRow[]> {
    await this.flush();
    const rows = await done<MessageRow[]>(this.#db.transaction('messages').objectStore('messages').getAll());
    return rows.filter(({ id, q }) => q && id.split('_')[1] === chat);
  }

  async #drain(): Promise<void> {
    try {
      // Rows that are saved in the same moment go along.
      await Promise.resolve();
      while (this.#rows.size > 0) {
        const rows = this.#rows;
        this.#rows = new Map();
        const transaction = this.#db.transaction('messages', 'readwrite', { durability: 'relaxed' });
        const messages = transaction.objectStore('messages');
        for (const row of rows.values()) messages.put(row);
        this.#sincePrune += rows.size;
        const done = committed(transaction);
        // Only pruning has more requests to come.
        if (this.#sincePrune >= PRUNE_EVERY) this.#prune(messages);
        else transaction.commit();
        await done;
      }
    } finally {
      this.#draining = undefined;
    }
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
