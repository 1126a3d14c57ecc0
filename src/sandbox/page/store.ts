const NAME = 'whatsapp-sandbox';
const VERSION = 1;

/** How many messages an account keeps on disk. */
const KEEP = 5000;
const PRUNE_EVERY = 500;
/** What the server would tell again after a crash is written in larger batches. */
const SOON_MS = 100;

/**
 * What the browser itself keeps: keys and credential, written through to the disk, and recent messages, written without
 * waiting for the disk but always before they go on the wire.
 */
export class Store {
  #db;
  #rows = new Map();
  #draining;
  #soon;
  #nextOrder = 1;
  #sincePrune = 0;

  static async open() {
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
  get(name) {
    return done(this.#db.transaction('keys').objectStore('keys').get(name));
  }

  /** Writes keys or the credential so that even a killed browser or a power cut does not lose them. */
  async put(entries) {
    const transaction = this.#db.transaction('keys', 'readwrite', { durability: 'strict' });
    for (const [name, value] of Object.entries(entries)) {
      transaction.objectStore('keys').put(value, name);
    }
    await committed(transaction);
  }

  /** Forgets everything: after a logout the next page starts as a new device. */
  async wipe() {
    await this.flush();
    const stores = ['keys', 'messages', 'chats'];
    const transaction = this.#db.transaction(stores, 'readwrite', { durability: 'strict' });
    for (const name of stores) transaction.objectStore(name).clear();
    await committed(transaction);
  }

  /** The newest rows, oldest first, and those older ones that wait for ack 1; and what is known of the chats. */
  async restore(limit) {
    const transaction = this.#db.transaction(['messages', 'chats']);
    const messages = transaction.objectStore('messages');
    const [newest, pending, chats] = await Promise.all([
      newestRows(messages.index('order'), limit),
      done(messages.index('pending').getAll()),
      done(transaction.objectStore('chats').getAll()),
    ]);
    const rows = new Map();
    for (const row of [...pending, ...newest]) rows.set(row.id, row);
    this.#nextOrder = (newest.at(-1)?.o ?? 0) + 1;
    return { rows: [...rows.values()].sort((a, b) => a.o - b.o), chats };
  }

  /** One row, also one that is too old to be in memory. */
  async find(id) {
    return this.#rows.get(id) ?? done(this.#db.transaction('messages').objectStore('messages').get(id));
  }

  /** The newest rows of a chat that are older than a place in the order, oldest first. */
  async before(order, chat, limit) {
    const range = order === Infinity ? null : IDBKeyRange.upperBound(order, true);
    const rows = await done(
      this.#db.transaction('messages').objectStore('messages').index('order').getAll(range),
    );
    return rows.filter(({ id }) => id.split('_')[1] === chat).slice(-limit);
  }

  /** The place of a new message in the order of all messages of this account. */
  nextOrder() {
    return this.#nextOrder++;
  }

  /** Writes a row; those of one moment share a transaction. Resolves once it is committed. */
  save(row) {
    this.#rows.set(row.id, row);
    return this.flush();
  }

  /** Writes a row with others a little later. */
  saveSoon(row) {
    this.#rows.set(row.id, row);
    void this.flushSoon();
  }

  /** Resolves once everything that was saved before is committed. */
  flush() {
    this.#draining ??= this.#drain();
    return this.#draining;
  }

  /** The same, without hurry. */
  flushSoon() {
    this.#soon ??= new Promise((resolve) => setTimeout(resolve, SOON_MS)).then(() => {
      this.#soon = undefined;
      return this.flush();
    });
    return this.#soon;
  }

  /** Remembers up to which message a chat has been seen. */
  async saveChat(chat) {
    const transaction = this.#db.transaction('chats', 'readwrite', { durability: 'relaxed' });
    transaction.objectStore('chats').put(chat);
    await committed(transaction);
  }

  async #drain() {
    try {
      // Rows that are saved in this very moment go along.
      await null;
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

  #prune(messages) {
    this.#sincePrune = 0;
    const tooOld = IDBKeyRange.upperBound(this.#nextOrder - KEEP, true);
    const request = messages.index('order').getAllKeys(tooOld);
    request.onsuccess = () => {
      for (const key of request.result) messages.delete(key);
    };
  }
}

function newestRows(index, limit) {
  return new Promise((resolve, reject) => {
    const last = index.openKeyCursor(null, 'prev');
    last.onerror = () => reject(last.error);
    last.onsuccess = () => {
      if (!last.result) return resolve([]);
      const range = IDBKeyRange.lowerBound(last.result.key - limit, true);
      done(index.getAll(range)).then(resolve, reject);
    };
  });
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error('The page is open twice with different versions.'));
  });
}

function committed(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? new Error('The browser could not store this.'));
  });
}
