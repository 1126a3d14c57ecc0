import { Actions } from './actions.js';
import { Dialog } from './dialog.js';
import { Emitter, Model } from './events.js';
import { Groups } from './groups.js';
import { decodeB64, encodeB64, widOfPhone } from './ids.js';
import { Link } from './link.js';
import { Media } from './media.js';
import { Messages } from './messages.js';
import { createCollections, MESSAGES_IN_MEMORY } from './models.js';
import { createModules } from './modules.js';
import { Store } from './store.js';

/** Syncing ends only once somebody can notice, unless a fault says otherwise; but it does not wait for ever. */
const LISTENER_LIMIT_MS = 10_000;
/** A page that asked to log out may be closed by whoever asked, before it starts anew by itself. */
const LOGOUT_REDIRECT_MS = 1000;

/** A `SocketModel` with the methods that whatsapp-web.js calls. */
class Socket extends Model {
  #app;

  constructor(app) {
    super({ state: 'UNLAUNCHED', hasSynced: false });
    this.#app = app;
  }

  /** Unlinks this browser; resolves once the server has confirmed it. */
  logout() {
    return this.#app.logout();
  }

  /** Takes the account back from the browser that took it. */
  takeover() {
    this.#app.link.reconnect();
  }

  reconnect() {
    this.#app.link.reconnect();
  }
}

/** The page: it pairs, connects, syncs, and logs out. */
class App {
  account = { me: undefined };
  keys;
  offlineProgress = 0;
  link = new Link();
  dialog = new Dialog();
  socket = new Socket(this);
  cmd = new Emitter();
  /** What the server says that this page may and is to do. */
  rules = {
    editWindowMs: 0,
    revokeWindowMs: 0,
    reloadBeforeSendRate: 0,
    messagesInMemory: MESSAGES_IN_MEMORY,
  };
  conn = new Model({ ref: undefined, pushname: '', platform: 'android', wid: undefined });
  #store;
  #messages;
  #groups;
  #credential;
  #nonce;
  #wasConnected = false;
  #unknown = new Set();

  constructor(store) {
    this.#store = store;
    const { link, account, rules } = this;
    const media = new Media();
    const actions = new Actions({
      store,
      link,
      account,
      rules,
      // Looked up each time: whatsapp-web.js puts its own function in its place.
      tellReactions: (reactions) =>
        this.modules.WAWebAddonReactionTableMode.reactionTableMode.bulkUpsert(reactions),
      tellVotes: (votes) => this.modules.WAWebAddonPollVoteTableMode.pollVoteTableMode.bulkUpsert(votes),
    });
    this.#messages = new Messages({ store, link, account, rules, actions, media });
    this.#groups = new Groups({ link, account, messages: this.#messages });
    this.collections = createCollections(
      (phone, isByLid) => this.#messages.exists(phone, isByLid),
      (phone) => this.#messages.isKnown(phone),
    );
    this.#messages.attach(this.collections, this.#groups);
    this.#groups.attach(this.collections);
    actions.attach(this.collections);
    Object.assign(this.cmd, {
      refreshQR: () => this.refreshQr(),
      archiveChat: async (chat, archive) => {
        await this.#messages.saveChat(chat.set({ archive }));
      },
      pinChat: async (chat, pin) => {
        await this.#messages.saveChat(chat.set({ pin: pin ? Date.now() : undefined }));
      },
      markChatUnread: async (chat, unread) => chat.set({ unreadCount: unread ? -1 : 0 }),
      openChatBottom: async () => undefined,
      sendRevokeMsgs: (_chat, { list }) => Promise.all(list.map((msg) => actions.revoke(msg))),
    });
    this.modules = createModules({
      app: this,
      socket: this.socket,
      cmd: this.cmd,
      conn: this.conn,
      collections: this.collections,
      messages: this.#messages,
      groups: this.#groups,
      actions,
      media,
    });
    this.#listen();
  }

  /** Reads what this profile has, and connects. */
  async start() {
    this.#credential = await this.#store.get('credential');
    this.keys = (await this.#store.get('keys')) ?? (await this.#createKeys());
    if (this.#credential) {
      this.account.me = widOfPhone(this.#credential.phone);
      await this.#messages.restore();
    }
    this.link.connect();
  }

  /** Looks a module up as WhatsApp Web's own `require` does. */
  require(name) {
    const module = this.modules[name];
    if (module !== undefined) return module;
    if (!this.#unknown.has(name)) {
      this.#unknown.add(name);
      this.link.send({ t: 'unknown-module', name });
    }
    throw new Error(`The sandbox has no module "${name}"`);
  }

  /** A code that the owner of `phone` can type in to link this browser. */
  requestPairingCode(phone) {
    return this.link.ask('code', { phone: String(phone), secret: this.keys.advSecret });
  }

  refreshQr() {
    return this.link.ask('refresh-qr');
  }

  async logout() {
    await this.link.ask('logout');
    this.link.stop();
    await this.#forget();
    setTimeout(() => this.#startAnew(), LOGOUT_REDIRECT_MS);
  }

  #listen() {
    const { link, socket } = this;
    link.on('connecting', () => {
      this.#messages.hold();
      if (this.#credential || socket.state === 'UNLAUNCHED') socket.set({ state: 'OPENING' });
    });
    link.on('challenge', ({ nonce }) => this.#identify(nonce));
    link.on('ref', ({ ref }) => {
      link.markReady();
      // The first code has to be there before the state says that it is needed.
      this.conn.set({ ref });
      socket.set({ state: 'UNPAIRED' });
    });
    link.on('paired', (frame) => this.#pair(frame));
    link.on('welcome', (frame) => this.#welcome(frame));
    link.on('ev', ({ e }) => this.#inOrder(() => this.#messages.receive(e)));
    link.on('caught-up', () => this.#inOrder(() => this.#caughtUp()));
    link.on('refused', ({ id }) => this.#messages.refused(id));
    link.on('conflict', () => {
      link.stop();
      socket.set({ state: 'CONFLICT' });
    });
    link.on('unlinked', () => this.#unlinked());
    link.on('contacts', ({ contacts }) => this.#messages.setAddressBook(contacts));
    link.on('dialog', ({ dialog }) => this.dialog.show(dialog));
    link.on('rules', ({ rules }) => {
      Object.assign(this.rules, rules);
      this.collections.Msg.setLimit(rules.messagesInMemory);
    });
    link.on('reload', () => location.reload());
  }

  async #identify(nonce) {
    this.#nonce = nonce;
    if (this.#credential) {
      const { id } = this.#credential;
      this.link.send({ t: 'auth', id, proof: await this.#prove(nonce) });
      return;
    }
    const { os, name } = this.modules.WAWebMiscBrowserUtils.info();
    this.link.send({
      t: 'register',
      noisePublicKey: encodeB64(this.keys.noise.pubKey),
      identityPublicKey: encodeB64(this.keys.identity.pubKey),
      device: `${name} (${os})`,
    });
  }

  async #pair({ id, phone, lid, name, proof }) {
    // Only a phone that has read this page's own secret can have made this.
    if ((await this.#prove(`${id}:${phone}`)) !== proof) return;
    this.socket.set({ state: 'PAIRING' });
    const credential = { id, phone, lid, name };
    await this.#store.put({ credential });
    this.#credential = credential;
    this.account.me = widOfPhone(phone);
    this.link.send({ t: 'stored', id });
    await this.#identify(this.#nonce);
  }

  #welcome({ phone, name, offline, syncDelayMs, earlySync, dialog, groups, contacts }) {
    this.#wasConnected = true;
    this.account.me = widOfPhone(phone);
    this.#groups.replaceAll(groups);
    this.#messages.setAddressBook(contacts);
    this.conn.set({ pushname: name, wid: this.account.me });
    this.sync = { offline, syncDelayMs, earlySync };
    this.dialog.show(dialog);
    this.#setProgress(offline > 0 ? 0 : 100);
    this.socket.set({ state: 'CONNECTED' });
  }

  async #caughtUp() {
    await this.#store.flush();
    this.#setProgress(100);
    this.link.markReady();
    this.#messages.resend();
    if (!this.socket.hasSynced) void this.#finishSync();
  }

  async #finishSync() {
    const { syncDelayMs, earlySync } = this.sync;
    if (!earlySync) {
      if (syncDelayMs > 0) await new Promise((resolve) => setTimeout(resolve, syncDelayMs));
      await this.#somebodyListens();
    }
    // Like the real page, it does not start under a dialog.
    await this.dialog.whenClosed();
    this.socket.set({ hasSynced: true });
  }

  /**
   * The real page syncs for seconds, so that whatsapp-web.js, which injects itself meanwhile, hears of its end. This page
   * has nothing to do in that time.
   */
  #somebodyListens() {
    const { socket } = this;
    if (socket.hasListener('change:hasSynced')) return Promise.resolve();
    return new Promise((resolve) => {
      const on = socket.on;
      const go = () => {
        delete socket.on;
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(go, LISTENER_LIMIT_MS);
      socket.on = (names, listener) => {
        on.call(socket, names, listener);
        // After the caller has attached all of its listeners.
        if (socket.hasListener('change:hasSynced')) setTimeout(go, 0);
        return socket;
      };
    });
  }

  async #unlinked() {
    this.link.stop();
    await this.#forget();
    if (this.#wasConnected) {
      this.cmd.trigger('logout');
      this.#startAnew();
    } else {
      // Unlinked while this browser was away: it shows a QR code, as a new one does.
      this.keys = await this.#createKeys();
      this.link.connect();
    }
  }

  async #forget() {
    this.#credential = undefined;
    // whatsapp-web.js may already have deleted the profile under a page that logs out.
    await this.#store.wipe().catch((error) => console.warn(error));
  }

  #startAnew() {
    this.link.stop();
    location.replace('/?post_logout=1');
  }

  /** Events are taken in one after the other, and catching up ends after the last of them. */
  #inOrder(step) {
    this.#queue = this.#queue.then(step).catch((error) => console.error(error));
  }

  #queue = Promise.resolve();

  #setProgress(percent) {
    this.offlineProgress = percent;
    this.cmd.trigger('offline_progress_update_from_bridge');
  }

  async #prove(text) {
    const key = await crypto.subtle.importKey(
      'raw',
      decodeB64(this.keys.advSecret),
      { name: 'HMAC', hash: 'SHA-256' },
      false,
      ['sign'],
    );
    return encodeB64(await crypto.subtle.sign('HMAC', key, new TextEncoder().encode(text)));
  }

  async #createKeys() {
    const [noise, identity] = await Promise.all([createKeyPair(), createKeyPair()]);
    const advSecret = encodeB64(crypto.getRandomValues(new Uint8Array(32)));
    const keys = { noise, identity, advSecret };
    await this.#store.put({ keys }).catch((error) => console.warn(error));
    return keys;
  }
}

async function createKeyPair() {
  const pair = await crypto.subtle.generateKey({ name: 'X25519' }, true, ['deriveBits']);
  return { pubKey: await crypto.subtle.exportKey('raw', pair.publicKey), privKey: pair.privateKey };
}

const app = new App(await Store.open());
window.require = (name) => app.require(name);
window.Debug = { VERSION: '2.3000.1029000000' };
await app.start();
