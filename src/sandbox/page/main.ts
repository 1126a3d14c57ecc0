import type { Rules, ServerFrame, WelcomeFrame } from '../wire/frames.js';
import { Actions, type Reaction, type Vote } from './actions.js';
import { build } from './build.js';
import { Channels } from './channels.js';
import { breakModules } from './damage.js';
import { Dialog } from './dialog.js';
import { Emitter, Model, type ModelWith } from './events.js';
import { Calls } from './calls.js';
import { Groups } from './groups.js';
import { decodeB64, encodeB64, type Wid, widOfPhone } from './ids.js';
import { Invites } from './invites.js';
import { Link } from './link.js';
import { Marks } from './marks.js';
import { Media } from './media.js';
import { Messages } from './messages.js';
import { hideChats } from './persons.js';
import {
  type Account,
  type Chat,
  type Collections,
  createCollections,
  MESSAGES_IN_MEMORY,
  type Msg,
} from './models.js';
import { createModules, type Modules } from './modules.js';
import { ownMessageClass } from './own-message.js';
import { Presences } from './presences.js';
import { Profile } from './profile.js';
import { type Credential, type KeyPair, type Keys, Store } from './store.js';

/** Unless a fault says otherwise, syncing waits for a listener that notices its end, but not longer than this. */
const LISTENER_LIMIT_MS = 10_000;
/** How long a logout waits for the server. After that the page logs out although its phone still lists it. */
const UNPAIR_LIMIT_MS = 3000;
/** How far syncing is, in percent, as the page shows it on the way. */
const PROGRESS = [25, 50, 75];
/** After a logout whatsapp-web.js has this long to close the page; then the page starts again by itself. */
const LOGOUT_REDIRECT_MS = 1000;
const YEAR_S = 31_536_000;

declare global {
  interface Window {
    /** Gives whatsapp-web.js and Flotilla the modules of the page. They expect what WhatsApp Web has, which is untyped. */
    require: (name: string) => unknown;
    Debug: { VERSION?: string };
  }
}

interface SocketAttributes {
  state:
    | 'UNLAUNCHED'
    | 'OPENING'
    | 'UNPAIRED'
    | 'UNPAIRED_IDLE'
    | 'PAIRING'
    | 'CONNECTED'
    | 'CONFLICT'
    | 'DEPRECATED_VERSION';
  hasSynced: boolean;
}

/** A `SocketModel` with the methods that whatsapp-web.js calls. */
class Socket extends (Model as ModelWith<SocketAttributes>) {
  #app: App;

  constructor(app: App) {
    super({ state: 'UNLAUNCHED', hasSynced: false });
    this.#app = app;
  }

  /** Logs out. Like the real page it returns at once, and says the same whether the server was reached or not. */
  logout(reason = 'user_initiated'): void {
    void this.#app.logout(reason);
  }

  /** Takes the account back from the browser that took it. */
  takeover(): void {
    this.#app.link.reconnect();
  }

  reconnect(): void {
    this.#app.link.reconnect();
  }
}

type Frame<Name extends ServerFrame['t']> = Extract<ServerFrame, { t: Name }>;

interface ConnAttributes {
  /** The first part of the QR code. */
  ref: string | undefined;
  pushname: string;
  /** Of the phone: `smba` is the app for businesses. */
  platform: string;
  wid: Wid | undefined;
}

/** A `ConnModel` with the method that whatsapp-web.js calls. */
class Conn extends (Model as ModelWith<ConnAttributes>) {
  #canSetName: () => boolean;

  constructor(canSetName: () => boolean, attributes: ConnAttributes) {
    super(attributes);
    this.#canSetName = canSetName;
  }

  canSetMyPushname(): boolean {
    return this.#canSetName();
  }
}

/** The page: it pairs, connects, syncs, and logs out. */
class App {
  account: Account = { me: undefined };
  keys!: Keys;
  offlineProgress = 0;
  link = new Link();
  dialog = new Dialog();
  socket = new Socket(this);
  cmd = new Emitter();
  /** What this page may do, and what it does to itself. The server sends it. */
  rules: Rules = {
    editWindowMs: 0,
    revokeWindowMs: 0,
    reloadBeforeSendRate: 0,
    resumesSends: false,
    messagesInMemory: MESSAGES_IN_MEMORY,
    newChatNotice: true,
    revokedNamesOldKey: true,
    oldestVersion: null,
    updateLoop: false,
    hiddenChats: false,
  };
  conn = new Conn(() => this.#profile.canSetName, {
    ref: undefined,
    pushname: '',
    platform: 'android',
    wid: undefined,
  });
  declare readonly collections: Collections;
  declare readonly modules: Modules;
  declare sync: Pick<WelcomeFrame, 'offline' | 'syncDelayMs' | 'earlySync'>;
  #store: Store;
  #messages: Messages;
  #groups: Groups;
  #profile: Profile;
  #channels: Channels;
  #credential: Credential | undefined;
  /** The nonce of this connection's challenge. */
  #nonce!: string;
  #wasConnected = false;
  #unknown = new Set<string>();

  constructor(store: Store) {
    this.#store = store;
    const { link, account, rules } = this;
    const media = new Media((hash) => this.#authorizeUpload(hash));
    const actions = new Actions({
      store,
      link,
      account,
      rules,
      // Looked up each time: whatsapp-web.js replaces the function.
      tellReactions: (reactions: Reaction[]) =>
        this.modules.WAWebAddonReactionTableMode.reactionTableMode.bulkUpsert(reactions),
      tellVotes: (votes: Vote[]) =>
        this.modules.WAWebAddonPollVoteTableMode.pollVoteTableMode.bulkUpsert(votes),
    });
    this.#messages = new Messages({ store, link, account, rules, actions, media });
    this.#groups = new Groups({ link, account, messages: this.#messages });
    this.collections = createCollections(
      (phone, isByLid) => this.#messages.exists(phone, isByLid),
      (phone) => this.#messages.isKnown(phone),
    );
    this.#channels = new Channels({ link, account, store, media, messages: this.#messages });
    this.#messages.attach(this.collections, this.#groups, this.#channels);
    this.#channels.attach(this.collections);
    this.collections.Msg.modelClass = ownMessageClass({ account, store, media });
    this.#groups.attach(this.collections);
    actions.attach(this.collections);
    const marks = new Marks(store, this.#messages);
    marks.attach(this.collections, this.cmd);
    this.#profile = new Profile({ link, account, conn: this.conn });
    this.#profile.attach(this.collections);
    Object.assign(this.cmd, {
      ...(build.cmdRefreshesQr ? { refreshQR: () => this.refreshQr() } : {}),
      archiveChat: async (chat: Chat, archive: boolean) => {
        await this.#messages.saveChat(chat.set({ archive }));
      },
      pinChat: async (chat: Chat, pin: boolean) => {
        await this.#messages.saveChat(chat.set({ pin: pin ? Date.now() : undefined }));
      },
      markChatUnread: async (chat: Chat, unread: boolean) => chat.set({ unreadCount: unread ? -1 : 0 }),
      sendRevokeMsgs: (_chat: Chat, { list }: { list: Msg[] }) =>
        Promise.all(list.map((msg) => actions.revoke(msg))),
    });
    new Presences(link);
    this.modules = createModules({
      app: this,
      socket: this.socket,
      cmd: this.cmd,
      conn: this.conn,
      collections: this.collections,
      messages: this.#messages,
      groups: this.#groups,
      channels: this.#channels,
      actions,
      media,
      marks,
      profile: this.#profile,
      invites: new Invites(account, this.#groups, this.#messages),
      calls: new Calls(link),
      store,
    });
    this.#listen();
  }

  /** Reads what this profile has stored, and connects. */
  async start(): Promise<void> {
    this.#credential = await this.#store.get('credential');
    this.keys = (await this.#store.get('keys')) ?? (await this.#createKeys());
    if (this.#credential) {
      this.account.me = widOfPhone(this.#credential.phone);
      await this.#messages.restore();
    }
    this.link.connect();
  }

  /** Finds a module by its name, like the `require` of WhatsApp Web. */
  require(name: string): unknown {
    const module: unknown = this.modules[name as keyof Modules];
    if (module !== undefined) return module;
    if (!this.#unknown.has(name)) {
      this.#unknown.add(name);
      this.link.send({ t: 'unknown-module', name });
    }
    throw new Error(`The sandbox has no module "${name}"`);
  }

  /** Gives a code that the owner of `phone` can enter to link this browser. */
  requestPairingCode(phone: string): Promise<string> {
    return this.link.ask('code', { phone: String(phone), secret: this.keys.advSecret });
  }

  /** Connects anew, which brings new QR codes. */
  refreshQr(): void {
    this.link.reconnect();
  }

  /** Asks the server to unlink this browser. */
  async unpair(): Promise<{ status: number }> {
    await this.link.ask('logout');
    return { status: 200 };
  }

  async logout(reason: string): Promise<void> {
    const limit = new Promise((resolve) => setTimeout(resolve, UNPAIR_LIMIT_MS));
    // Looked up now, because a program may have replaced the function. Its failure changes nothing.
    const unpaired = this.modules.WAWebUnpairDeviceJob.unpairDevice(reason).catch(() => undefined);
    await Promise.race([unpaired, limit]);
    this.link.stop();
    await this.#forget();
    this.cmd.trigger('logout');
    setTimeout(() => this.#startAgain(), LOGOUT_REDIRECT_MS);
  }

  #listen(): void {
    const { link, socket } = this;
    link.on('connecting', () => {
      this.#messages.hold();
      if (this.#credential || socket.state === 'UNLAUNCHED') socket.set({ state: 'OPENING' });
    });
    link.on('challenge', ({ nonce }) => this.#identify(nonce));
    link.on('ref', ({ ref }) => {
      link.markReady();
      // The code comes first, because the state tells whatsapp-web.js to show it.
      this.conn.set({ ref: ref ?? undefined });
      socket.set({ state: ref === null ? 'UNPAIRED_IDLE' : 'UNPAIRED' });
    });
    link.on('paired', (frame) => this.#pair(frame));
    link.on('welcome', (frame) => this.#welcome(frame));
    link.on('ev', ({ e }) => this.#inOrder(() => this.#messages.receive(e)));
    link.on('caught-up', () => this.#inOrder(() => this.#caughtUp()));
    link.on('refused', ({ id }) => void this.#messages.refused(id));
    link.on('failed', ({ id }) => void this.#messages.failed(id));
    link.on('conflict', () => {
      link.stop();
      socket.set({ state: 'CONFLICT' });
    });
    link.on('unlinked', () => this.#unlinked());
    link.on('profile', ({ profile }) => this.#profile.set(profile));
    link.on('contacts', ({ contacts }) => this.#messages.setAddressBook(contacts));
    link.on('dialog', ({ dialog }) => this.dialog.show(dialog));
    link.on('rules', ({ rules }) => {
      Object.assign(this.rules, rules);
      this.collections.Msg.setLimit(rules.messagesInMemory);
      if (this.#isTooOld()) this.#retire();
      if (rules.hiddenChats) hideChats(this.collections);
    });
    link.on('reload', () => location.reload());
  }

  async #identify(nonce: string): Promise<void> {
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

  async #pair({ id, phone, lid, name, proof }: Frame<'paired'>): Promise<void> {
    // Only a phone that has read the secret of this page can make this proof.
    if ((await this.#prove(`${id}:${phone}`)) !== proof) return;
    this.socket.set({ state: 'PAIRING' });
    const credential = { id, phone, lid, name };
    await this.#store.put({ credential });
    this.#credential = credential;
    this.account.me = widOfPhone(phone);
    showPhone(phone);
    this.link.send({ t: 'stored', id });
    await this.#identify(this.#nonce);
  }

  /** Whether WhatsApp no longer accepts the version of this page. */
  #isTooOld(): boolean {
    const { oldestVersion } = this.rules;
    return oldestVersion !== null && numberOf(build.version) < numberOf(oldestVersion);
  }

  #retire(): void {
    this.link.stop();
    if (this.rules.updateLoop) location.reload();
    else this.socket.set({ state: 'DEPRECATED_VERSION' });
  }

  #welcome({
    phone,
    profile,
    offline,
    syncDelayMs,
    earlySync,
    dialog,
    groups,
    channels,
    contacts,
  }: Frame<'welcome'>): void {
    if (this.#isTooOld()) return;
    this.#wasConnected = true;
    this.account.me = widOfPhone(phone);
    showPhone(phone);
    this.#groups.replaceAll(groups);
    this.#channels.replaceAll(channels);
    this.#messages.setAddressBook(contacts);
    this.conn.set({ wid: this.account.me });
    this.#profile.set(profile);
    this.sync = { offline, syncDelayMs, earlySync };
    this.dialog.show(dialog);
    this.#setProgress(offline > 0 || !this.socket.hasSynced ? 0 : 100);
    this.socket.set({ state: 'CONNECTED' });
  }

  async #caughtUp(): Promise<void> {
    await this.#store.flush();
    this.link.markReady();
    this.#messages.resume();
    if (this.socket.hasSynced) this.#setProgress(100);
    else void this.#finishSync();
  }

  async #finishSync(): Promise<void> {
    const { syncDelayMs, earlySync } = this.sync;
    if (!earlySync) {
      // whatsapp-web.js listens while the page syncs, and hears how far it is.
      for (const percent of syncDelayMs > 0 ? PROGRESS : []) {
        await new Promise((resolve) => setTimeout(resolve, syncDelayMs / PROGRESS.length));
        this.#setProgress(percent);
      }
      await this.#somebodyListens();
    }
    this.#setProgress(100);
    // Like the real page, this one does not end syncing under a dialog.
    await this.dialog.whenClosed();
    this.socket.set({ hasSynced: true });
  }

  /**
   * Resolves once whatsapp-web.js listens for the end of syncing. The real page syncs for seconds, in which whatsapp-web.js
   * injects itself; this page has nothing to do in that time.
   */
  #somebodyListens(): Promise<void> {
    const { socket } = this;
    if (socket.hasListener('change:hasSynced')) return Promise.resolve();
    return new Promise<void>((resolve) => {
      const on = socket.on;
      const go = (): void => {
        // Removes the property that is set below, so that `on` is the method of the class again.
        delete (socket as Partial<Socket>).on;
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

  async #unlinked(): Promise<void> {
    this.link.stop();
    await this.#forget();
    if (this.#wasConnected) {
      this.cmd.trigger('logout');
      this.#startAgain();
    } else {
      // Unlinked while this browser was away: it shows a QR code, like a new browser.
      this.keys = await this.#createKeys();
      this.link.connect();
    }
  }

  async #forget(): Promise<void> {
    this.#credential = undefined;
    showPhone(null);
    // whatsapp-web.js may have deleted the profile already while this page logs out.
    await this.#store.wipe().catch((error: unknown) => console.warn(error));
  }

  #startAgain(): void {
    this.link.stop();
    location.replace('/?post_logout=1');
  }

  /** Events are taken in one after the other, and catching up ends after the last one. */
  #inOrder(step: () => Promise<void>): void {
    this.#queue = this.#queue.then(step).catch((error: unknown) => console.error(error));
  }

  #queue = Promise.resolve();

  #setProgress(percent: number): void {
    this.offlineProgress = percent;
    this.cmd.trigger('offline_progress_update_from_bridge');
  }

  /** The `Authorization` of an upload. */
  async #authorizeUpload(hash: string): Promise<string> {
    return `${this.#credential?.id ?? ''}:${await this.#prove(`upload:${hash}`)}`;
  }

  async #prove(text: string): Promise<string> {
    const key = await crypto.subtle.importKey(
      'raw',
      decodeB64(this.keys.advSecret),
      { name: 'HMAC', hash: 'SHA-256' },
      false,
      ['sign'],
    );
    return encodeB64(await crypto.subtle.sign('HMAC', key, new TextEncoder().encode(text)));
  }

  async #createKeys(): Promise<Keys> {
    const [noise, identity] = await Promise.all([createKeyPair(), createKeyPair()]);
    const advSecret = encodeB64(crypto.getRandomValues(new Uint8Array(32)));
    const keys = { noise, identity, advSecret };
    await this.#store.put({ keys }).catch((error: unknown) => console.warn(error));
    return keys;
  }
}

/**
 * Keeps the phone in a cookie, so that the server knows at the next load of the page which build the phone has. The browser writes
 * cookies to its disk after up to 30 s: a browser that is killed before that loads the build of unlinked browsers once.
 */
function showPhone(phone: string | null): void {
  document.cookie = `phone=${phone ?? ''}; Max-Age=${phone === null ? 0 : YEAR_S}; Secure; SameSite=Lax`;
}

/** The last part of a version, which grows with each release. */
function numberOf(version: string): number {
  return Number(version.split('.').at(-1));
}

async function createKeyPair(): Promise<KeyPair> {
  const pair = await crypto.subtle.generateKey({ name: 'X25519' }, true, ['deriveBits']);
  return { pubKey: await crypto.subtle.exportKey('raw', pair.publicKey), privKey: pair.privateKey };
}

const app = new App(await Store.open());
window.Debug = { VERSION: build.version };
breakModules(app.modules, build.damage);
window.require = (name: string) => app.require(name);
await app.start();
