import type { MessageTarget } from './message-target.js';
import { EventEmitter, once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import type { Browser, LaunchOptions, Page } from 'puppeteer';
import whatsapp, { type Client } from 'whatsapp-web.js';
import { IndexPage } from './browser/index-page.js';
import type { WebPage } from './web-page.js';
import { launchOptions } from './browser/launch.js';
import { resultWithin, withDeadline } from './deadlines.js';
import { DialogWatch, dialogTextLength, probeLimitMs } from './dialog-watch.js';
import { browsersEnded, groupEnded, memoryOf } from './browser/processes.js';
import { PageBridge } from './bridge.js';
import { ContractWatch, gatherMs } from './contract-watch.js';
import { SessionChats } from './session-chats.js';
import { claimProfile } from './browser/profile.js';
import { actOn, type PageAction, type PageActionResult } from './in-page/page-actions.js';
import { type PageRejection, rejectCall } from './in-page/page-calls.js';
import type { PageEvent, PageSend, PageSendResult } from './in-page/page-functions.js';
import { SessionMessages } from './session-messages.js';
import { expectFile, forgetFile, sendMessage } from './in-page/page-send.js';
import {
  announceSynced,
  connectionState,
  hasFlotilla,
  type OwnIds,
  readOwnIds,
  reconnectSocket,
  refreshQr,
  unlink,
} from './in-page/page-state.js';
import {
  type CloseReason,
  NotOwned,
  type SessionEvents,
  type SessionOptions,
  type StopOptions,
} from './session-events.js';

/** WhatsApp shows the first QR code for a minute, the next ones for 20 s each. */
const firstQrLifetimeMs = 60_000;
const qrLifetimeMs = 20_000;
/** How long WhatsApp Web may take to show a new QR code before it is asked again. */
const qrRefreshMs = 10_000;
const pairingCodeLifetimeMs = 180_000;
const probeMs = 250;
/** How long a page may take for a short answer. */
const answerMs = 15_000;
/** How long WhatsApp may take for an edit, a revocation or a reaction. */
const actionMs = 10_000;
const maxTypingMs = 10_000;
/** A killed browser is gone after about 20 ms, unless the machine is overloaded. */
const killMs = 1_000;
const finishSendsMs = 10_000;
const closeMs = 5_000;
const logoutMs = 10_000;
/** WhatsApp's word for a page that is too old. */
const deprecated = 'DEPRECATED_VERSION';
/** For how many messages the session remembers acks, and how long after a send it waits for one. */
const rememberedAcks = 500;
const lateAckMs = 200;
/** How long a linked page may be synced without the library being ready, before it is compared with the contract. */
const stuckMs = 5_000;
/**
 * The phases of a session. In `linking` a person must scan or type a code. In `incompatible` the library cannot start in the
 * page, so that only a new load of the page can help.
 */
type Phase = 'launching' | 'loading' | 'linking' | 'syncing' | 'ready' | 'incompatible';

/** One account in one browser: whatsapp-web.js behind plain calls and plain events. */
export class WhatsAppSession extends EventEmitter<SessionEvents> {
  private client: Client | null = null;
  private readonly ending = new AbortController();
  /** Kills the browser with its process group, or keeps it from being launched. */
  private readonly killing = new AbortController();
  private phase: Phase = 'launching';
  private phaseSince = 0;
  private isAuthenticated = false;
  /** How many probes found that the page has synced although the library has not noticed. */
  private unnoticedSyncs = 0;
  private bridge: PageBridge | null = null;
  private isFollowed = false;
  private isInitialized = false;
  /** How often the page was loaded again because its contract was broken. */
  private reloads = 0;
  private who: SessionEvents['ready'][0] = { phoneNumber: null, lid: null };
  private qrsShown = 0;
  /** When the page was last asked for new QR codes: milliseconds of `performance.now()`. */
  private qrRefreshedAt = -Infinity;
  private starting: Promise<void> | null = null;
  private isLoggingOut = false;
  /** The number that the page had when it was admitted. */
  private admittedPhone: string | null = null;
  private readonly operations = new Set<Promise<unknown>>();
  private readonly dialogs: DialogWatch;
  private readonly index: IndexPage;
  private readonly contract: ContractWatch;
  /** The last ack of each of the latest messages, as the page reported it. */
  private readonly acks = new LRUCache<string, number>({ max: rememberedAcks });
  /** Since when the page has been connected and synced while the session was not ready. */
  private syncedSince: number | null = null;

  constructor(private readonly options: SessionOptions) {
    super();
    this.contract = new ContractWatch((state) => {
      if (!this.ended) this.emit('web', state);
    }, options.web);
    this.dialogs = new DialogWatch({
      onOpen: (text) => {
        if (!this.ended) this.emit('action_required', text);
      },
      onWarning: options.onWarning,
    });
    this.index = new IndexPage(options.webPage ?? null, {
      onRefused: () => void this.closeRefused('it loads itself again and again'),
      onWarning: options.onWarning,
    });
  }

  get ready(): boolean {
    return this.phase === 'ready' && !this.ended;
  }

  /** Whether the library cannot start in the page: it lacks something, and only a new load of it can help. */
  get isIncompatible(): boolean {
    return this.phase === 'incompatible' && !this.ended;
  }

  private get ended(): boolean {
    return this.ending.signal.aborted;
  }

  /**
   * Starts the browser and loads WhatsApp Web. Returns when the page shows a QR code, asks for a code or restores the
   * session, or when the session has ended. Events report everything after that, and every missed deadline.
   * @throws NotOwned, or any other error if the browser or the page does not start
   */
  async start(): Promise<void> {
    this.starting = this.launch();
    await this.starting;
  }

  private async launch(): Promise<void> {
    if (this.ended) return;
    const { accountId, chromiumPath, profileDir, network, deadlines, pairWithPhoneNumber, browserSandbox } =
      this.options;
    await claimProfile(profileDir);
    if (this.ended) return;
    // This class watches the deadlines of the phases, so the timeouts of puppeteer and of the library must not come first.
    const puppeteer: LaunchOptions = {
      ...launchOptions(chromiumPath, profileDir, network, browserSandbox),
      timeout: 0,
      signal: this.killing.signal,
    };
    const client = new whatsapp.Client({
      puppeteer: puppeteer as never,
      webVersionCache: { type: 'none' },
      authTimeoutMs: deadlines.loadMs * 2,
      takeoverOnConflict: false,
      ...(pairWithPhoneNumber ? { pairWithPhoneNumber: { phoneNumber: pairWithPhoneNumber } } : {}),
    });
    const library = client as unknown as { inject(): Promise<void> };
    const inject = library.inject.bind(client);
    let injections = 0;
    Object.assign(client, {
      // IndexPage says why it does the work of the library's own cache.
      initWebVersionCache: () => this.index.attach(this.page),
      inject: () => this.injectLibrary(inject, ++injections === 1),
    });
    this.listen(client);
    if (!this.options.canStart()) {
      this.ending.abort();
      throw new NotOwned(accountId);
    }
    this.client = client;
    this.phaseSince = performance.now();
    void this.watch(client);
    try {
      await Promise.race([client.initialize(), aborted(this.ending.signal)]);
      this.isInitialized = true;
    } catch (error) {
      // The session was ended during the start, which made the start fail. The caller that ended it closes the browser.
      if (this.ended) return;
      this.ending.abort();
      client.removeAllListeners();
      await this.endBrowser(closeMs);
      if (this.index.hasReloaded)
        throw new Error(this.refusedBecause('it loads itself again'), { cause: error });
      throw error;
    }
  }

  /** Lets the library start in the page. A page that lacks what the library needs stays open. */
  private async injectLibrary(inject: () => Promise<void>, isFirst: boolean): Promise<void> {
    const { reloads } = this;
    try {
      await inject();
    } catch (error) {
      if (this.ended) return;
      // Our own load of the page interrupted it. The library does not notice that during its first start.
      if (this.reloads > reloads && !this.isInitialized) return this.injectLibrary(inject, isFirst);
      const missing = await this.contract.missingForStart(this.page, () => this.ended);
      if (missing.length === 0 && isFirst) throw error;
      this.options.onWarning('whatsapp-web.js cannot start in this page', error);
      // After a later load nobody would handle the error. Either the page loads once more, or the deadline ends the session.
      if (missing.length > 0) this.becomeIncompatible(missing);
    }
  }

  /**
   * Lets running sends finish, closes the browser, and kills its process group if it does not close in time. Credentials
   * stay. Takes at most the sum of the two limits and about a second. A second call with shorter limits is allowed.
   */
  async stop(options: StopOptions = {}): Promise<void> {
    this.ending.abort();
    await resultWithin(Promise.allSettled(this.operations), options.finishSendsMs ?? finishSendsMs);
    this.client?.removeAllListeners();
    await this.endBrowser(options.closeMs ?? closeMs);
    // A start without a browser yet notices that the session has ended.
    await resultWithin(
      this.starting?.catch(() => undefined),
      killMs,
    );
  }

  /** Closes the browser within `limitMs`, then kills it. Kills a browser that is still being launched at once. */
  private async endBrowser(limitMs: number): Promise<void> {
    if (!this.client) return;
    const { browser } = this;
    if (browser) ignorePipeErrors(browser);
    if (browser && limitMs > 0) {
      const closed = browser
        .close()
        .catch((error: unknown) => this.options.onWarning('the browser did not close', error));
      await resultWithin(closed, limitMs);
    }
    this.killing.abort();
    const group = browser?.process()?.pid;
    // While puppeteer launches the browser, only puppeteer knows the process.
    const ended = group ? groupEnded(group, killMs) : browsersEnded(this.options.profileDir, killMs);
    if (!(await ended)) this.options.onWarning('the browser was killed but is still running', null);
  }

  /**
   * Unlinks the account at WhatsApp and closes the browser.
   * @param withinMs how long to wait for WhatsApp's answer
   * @returns whether WhatsApp confirmed the logout; the caller may delete the credentials only if it did
   */
  async logout(withinMs = logoutMs): Promise<boolean> {
    this.isLoggingOut = true;
    const confirmed = await this.unlink(withinMs);
    await this.stop();
    return confirmed;
  }

  /** @returns whether WhatsApp confirmed that the page is unlinked */
  private async unlink(withinMs: number): Promise<boolean> {
    try {
      const status = await withDeadline(this.page.evaluate(unlink), withinMs);
      if (status !== 200) this.options.onWarning(`WhatsApp answered the logout with ${status}`, null);
      return status === 200;
    } catch (error) {
      this.options.onWarning('WhatsApp did not answer the logout', error);
      return false;
    }
  }

  /**
   * Sends a message under its WhatsApp id. If WhatsApp Web already knows the id, only reports the ack of that message.
   * @throws if the page is lost or does not answer: the outcome is unknown
   */
  async send(request: PageSend): Promise<PageSendResult> {
    const typingMs = Math.min(request.typingMs, maxTypingMs);
    const send = { ...request, typingMs };
    const { bridge } = this;
    if (!bridge) return { outcome: 'not_ready' };
    const sending =
      'file' in send.content
        ? this.sendFile(bridge, send, send.content.file.path)
        : bridge.call(sendMessage, send);
    const result = await this.track(sending, send.timeoutMs + typingMs + answerMs);
    if (result.outcome !== 'timed_out' && result.outcome !== 'absent') return result;
    // The page does not find the message. If WhatsApp has acknowledged it, the page's look-ups are broken, not the send.
    const ack = await this.ackFor(request.whatsappId);
    return ack === null ? result : { outcome: 'known', ack, whatsappId: request.whatsappId, isUnfound: true };
  }

  /** The last ack that the page reported for a message, which may come a moment after the answer of the page. */
  private async ackFor(whatsappId: string): Promise<number | null> {
    const deadline = performance.now() + lateAckMs;
    while (!this.ended && !this.acks.has(whatsappId) && performance.now() < deadline)
      await delay(gatherMs, undefined, { ref: false });
    return this.acks.get(whatsappId) ?? null;
  }

  /** Sends a text to the account itself, which proves that the page can send. */
  async sendToItself(text: string, whatsappId: string, timeoutMs: number): Promise<PageSendResult> {
    const { phone, lid } = await withDeadline(this.page.evaluate(readOwnIds), answerMs);
    const chatId = phone === null ? lid : `${phone}@c.us`;
    if (chatId === null) return { outcome: 'not_ready' };
    return this.send({
      chatId,
      content: { type: 'text', text },
      quoted: null,
      mentions: [],
      whatsappId,
      searchStorage: false,
      lookOnly: false,
      mayResend: false,
      timeoutMs,
      typingMs: 0,
      checkNumber: false,
    });
  }

  private async sendFile(bridge: PageBridge, send: PageSend, path: string): Promise<PageSendResult> {
    const { whatsappId } = send;
    if (!(await bridge.giveFile(expectFile, whatsappId, path))) return { outcome: 'not_ready' };
    try {
      return await bridge.call(sendMessage, send);
    } finally {
      await bridge.call(forgetFile, whatsappId).catch(() => undefined);
    }
  }

  /**
   * Edits or revokes a sent message, or reacts to a message.
   * @throws if the page is lost or does not answer, or WhatsApp refuses: the outcome is unknown, and a retry is safe
   */
  async act(target: MessageTarget, action: PageAction): Promise<PageActionResult> {
    return this.track(this.page.evaluate(actOn, target, action, actionMs), actionMs + answerMs);
  }

  /**
   * Rejects a call that rings.
   * @param peer the chat id of the caller
   * @throws if the page is lost or does not answer
   */
  async rejectCall(callId: string, peer: string): Promise<PageRejection> {
    return this.track(this.page.evaluate(rejectCall, callId, peer), answerMs);
  }

  /** Runs an operation that may finish when the session stops during it. */
  private async track<Result>(work: Promise<Result>, limitMs: number): Promise<Result> {
    const operation = withDeadline(work, limitMs);
    this.operations.add(operation);
    try {
      return await operation;
    } finally {
      this.operations.delete(operation);
    }
  }

  /** What `Debug.VERSION` of the page says. Null before the page was compared with the contract. */
  get webVersion(): string | null {
    return this.contract.version;
  }

  /** The index that WhatsApp served at the last load. Null if it was taken already, was given, or could not be read. */
  takeServedPage(): string | null {
    const { served } = this.index;
    // It has about a megabyte.
    this.index.served = null;
    return served;
  }

  /** Whether the page was given to the browser, and not served by WhatsApp. */
  get hasGivenPage(): boolean {
    return this.index.wasGiven;
  }

  /** The page that the browser gets at its next load. Null: the page that WhatsApp serves. */
  async give(webPage: WebPage | null): Promise<void> {
    await withDeadline(this.index.give(this.page, webPage), answerMs);
  }

  /** Reconnects to WhatsApp without reloading the page. */
  async reconnect(): Promise<void> {
    await withDeadline(this.page.evaluate(reconnectSocket), answerMs);
  }

  /** Reads the messages that the page holds. @throws if the browser is not running */
  get messages(): SessionMessages {
    return new SessionMessages(this.page);
  }

  /**
   * Chats, people and groups.
   * @param limitMs how long all calls of the returned object may take together
   * @throws if the browser is not running
   */
  chats(limitMs: number): SessionChats {
    const track = <Result>(work: Promise<Result>, ms: number) => this.track(work, ms);
    return new SessionChats(this.client!, this.page, track, performance.now() + limitMs);
  }

  /** A PNG of the page. */
  async screenshot(): Promise<Uint8Array> {
    return withDeadline(this.page.screenshot({ type: 'png' }), answerMs);
  }

  /** The memory of all processes of the browser in bytes (proportional set size); 0 without a browser. Takes about 10 ms. */
  async memoryBytes(): Promise<number> {
    const { browserGroup } = this;
    return browserGroup === undefined ? 0 : memoryOf(browserGroup);
  }

  /** The process group of the browser. Undefined without a browser. */
  get browserGroup(): number | undefined {
    return this.browser?.process()?.pid;
  }

  private get browser(): Browser | null {
    return (this.client?.pupBrowser as Browser | undefined) ?? null;
  }

  private get page(): Page {
    const page = this.client?.pupPage as Page | undefined;
    if (!page) throw new Error('The browser of this account is not running.');
    return page;
  }

  private listen(client: Client): void {
    client.on('qr', (qr) => {
      // The library also tells that the last code has expired, as a code without its first part.
      if (/^(undefined|null),/.test(qr)) return;
      this.enter('linking');
      this.emit('qr', qr, this.qrsShown === 0 ? firstQrLifetimeMs : qrLifetimeMs);
      this.qrsShown += 1;
    });
    client.on('code', (code) => {
      this.enter('linking');
      this.emit('code', code, pairingCodeLifetimeMs);
    });
    client.on('authenticated', () => {
      this.isAuthenticated = true;
      if (!this.ready) this.enter('syncing');
    });
    client.on('ready', () => {
      this.contract.isWithoutLibrary = false;
      void this.becomeReady(client);
    });
    client.on('disconnected', (reason) => {
      const text = String(reason);
      // The caller of `logout` decides by WhatsApp's answer. The page says the same without an answer.
      if (this.isLoggingOut) return;
      if (text === 'LOGOUT') void this.close('logged_out', 'unlinked from the phone');
      else if (text === deprecated) void this.closeRefused(`its state is ${text}`);
      else if (text === 'CONFLICT') void this.close('conflict', 'another browser uses this session');
      else if (text.startsWith('UNPAIRED')) void this.close('unpaired', text);
      else void this.close('crashed', text);
    });
  }

  /** Listens to the browser as soon as it runs. On a busy machine its page may be ready by then. */
  private follow(page: Page): void {
    if (this.isFollowed) return;
    this.isFollowed = true;
    if (this.phase === 'launching') this.enter('loading');
    ignorePipeErrors(this.browser!);
    this.browser!.once('disconnected', () => void this.close('crashed', 'the browser ended'));
    // If the renderer dies, the browser keeps running with a page that does not answer.
    page.once('error', (error) => void this.close('crashed', String(error)));
    page.on('framenavigated', (frame) => {
      if (!frame.parentFrame()) void this.checkAfterNavigation(page);
    });
    // A JavaScript dialog blocks the whole page. Accept only the page's own wish to navigate away.
    page.on('dialog', (dialog) => {
      this.options.onWarning(`dismissed a dialog: ${dialog.message().slice(0, dialogTextLength)}`, null);
      const answered = dialog.type() === 'beforeunload' ? dialog.accept() : dialog.dismiss();
      answered.catch((error: unknown) => this.options.onWarning('a dialog could not be dismissed', error));
    });
  }

  /** If the page has reloaded by itself, the session cannot send until the page is ready again. */
  private async checkAfterNavigation(page: Page): Promise<void> {
    const isInstalled = await resultWithin(
      page.evaluate(hasFlotilla).catch(() => false),
      answerMs,
    );
    if (isInstalled || !this.ready) return;
    this.isAuthenticated = false;
    this.unnoticedSyncs = 0;
    this.enter('loading');
  }

  private async becomeReady(client: Client): Promise<void> {
    if (this.ended || this.isLoggingOut) return;
    this.follow(this.page);
    let own: OwnIds;
    try {
      own = await this.ownIds(client);
      // Before the bridge opens: until then, nothing of the page reaches anybody.
      if (!(await this.mayBe(own))) return;
      // A reloaded page becomes ready again, but has lost the installed functions.
      this.bridge ??= await withDeadline(
        PageBridge.open(this.page, (event) => this.emitPageEvent(event)),
        answerMs,
      );
      await this.contract.prepare(this.page, () => this.ended);
    } catch (error) {
      await this.close('crashed', `the page was lost while it became ready: ${String(error)}`);
      return;
    }
    if (this.ended || this.ready) return;
    this.enter('ready');
    this.who = { phoneNumber: own.phone, lid: own.lid };
    this.emit('ready', this.who);
  }

  private async ownIds(client: Client): Promise<OwnIds> {
    const own = await withDeadline(
      this.page.evaluate(readOwnIds).catch(() => null),
      answerMs,
    );
    if (own) return own;
    // The library may have a hidden number there.
    const wid = client.info?.wid;
    return { phone: wid?.server === 'c.us' ? wid.user : null, lid: null };
  }

  /** Whether the page may be the account. If it may not, the session ends. */
  private async mayBe(own: OwnIds): Promise<boolean> {
    if (own.phone !== null && own.phone === this.admittedPhone) return true;
    const admission = (await this.options.admit?.(own)) ?? 'admit';
    if (admission === 'admit') this.admittedPhone = own.phone;
    else await this.refuse(admission);
    return admission === 'admit';
  }

  /** Refuses a page with another number as soon as it tells its number, before it has loaded the chats of a stranger. */
  private async mindNumber(page: Page): Promise<void> {
    if (this.admittedPhone !== null) return;
    const own = await resultWithin(
      page.evaluate(readOwnIds).catch(() => null),
      probeLimitMs,
    );
    if (!own?.phone || this.ended || this.phase !== 'syncing') return;
    await this.mayBe(own).catch((error: unknown) =>
      this.options.onWarning('the number of the page could not be compared yet', error),
    );
  }

  private async refuse(admission: 'unlink' | 'stop'): Promise<void> {
    if (admission === 'stop') return this.close('number_changed', 'the account has another number now');
    if (this.isLoggingOut) return;
    // What the library says of the end of the link is not the reason of this end.
    this.isLoggingOut = true;
    const confirmed = await this.unlink(logoutMs);
    await this.close(confirmed ? 'other_number' : 'not_unlinked', 'a phone with another number linked it');
  }

  /** The library cannot start in this page. The browser stays open: WhatsApp Web itself receives what comes. */
  private becomeIncompatible(missing: string[]): void {
    if (this.ended) return;
    this.enter('incompatible');
    this.contract.breakWith(missing);
  }

  /** Sends have shown that the page is broken. It counts as broken until it is loaded again. */
  distrust(reason: string, reloadAfterMs: number): void {
    this.contract.distrust(reason, reloadAfterMs);
  }

  /** If the contract is broken: loads the page again now, and compares it again. */
  recheck(): void {
    this.contract.recheckNow();
  }

  /** Looks after a page with a broken contract: compares it again from time to time, and loads it again more rarely. */
  private async mindContract(page: Page): Promise<void> {
    if (this.phase !== 'ready' && this.phase !== 'incompatible') return;
    const due = this.contract.due();
    if (due === 'reload') {
      this.isAuthenticated = false;
      this.unnoticedSyncs = 0;
      this.syncedSince = null;
      this.reloads += 1;
      this.enter('loading');
      await page
        .reload({ waitUntil: 'domcontentloaded', timeout: this.options.deadlines.loadMs })
        .catch((error: unknown) => this.options.onWarning('the page did not load again', error));
    } else if (due === 'look' && this.ready) {
      await this.contract
        .prepare(page, () => this.ended)
        .catch((error: unknown) => this.options.onWarning('the page could not be compared', error));
      // What the page did not report meanwhile is read now.
      if (this.contract.isWhole && this.ready) this.emit('ready', this.who);
    }
  }

  /** The library is not ready in a page that is connected and synced: the contract may say why. */
  private async mindStuckLibrary(client: Client, page: Page): Promise<void> {
    if (this.phase !== 'syncing' || this.syncedSince === null) return;
    if (performance.now() - this.syncedSince < stuckMs) return;
    this.syncedSince = performance.now();
    const missing = await this.contract.missingForReady(page, () => this.ended);
    if (missing.length === 0 || this.ended || this.ready) return;
    this.contract.isWithoutLibrary = true;
    await this.becomeReady(client);
  }

  private emitPageEvent(event: PageEvent): void {
    if (event.kind === 'ack') {
      this.acks.set(event.whatsappId, event.ack);
      this.emit('ack', event);
    } else if (event.kind === 'message') this.emit('message', event.message);
    else if (event.kind === 'presence') this.emit('presence', event);
    else if (event.kind === 'call') this.emit('call', event);
    else if (event.kind === 'group') this.emit('group', event);
    else if (event.kind === 'warning') this.options.onWarning(event.text, null);
    else this.emit('change', event);
  }

  /** Watches the browser and its page from the launch to the end. Closes the session if a phase misses its deadline. */
  private async watch(client: Client): Promise<void> {
    while (!this.ended) {
      const page = client.pupPage as Page | undefined;
      if (page) this.follow(page);
      const isSettled = this.phase === 'ready' || this.phase === 'incompatible';
      const shown = isSettled ? '' : await this.probe(page);
      if (page) await this.dialogs.lookAt(page, this.phase === 'ready');
      if (page) await this.mindContract(page);
      if (page) await this.mindStuckLibrary(client, page);
      const late = this.missedDeadline(shown);
      if (late && !this.ended) await this.endLateStart(page, ...late);
      await delay(probeMs, undefined, { ref: false });
    }
  }

  /** Closes the session, unless the page lacks what the library needs to start. */
  private async endLateStart(page: Page | undefined, reason: CloseReason, detail: string): Promise<void> {
    const missing = page ? await this.contract.missingForStart(page, () => this.ended) : [];
    if (missing.length > 0) this.becomeIncompatible(missing);
    else if (!this.ready) await this.close(reason, detail);
  }

  private enter(phase: Phase): void {
    if (this.phase === phase) return;
    this.phase = phase;
    this.phaseSince = performance.now();
    if (phase === 'syncing') this.emit('syncing');
  }

  /** Checks the state of the page, and notifies the library if it missed the end of syncing. @returns the state, for a log */
  private async probe(page: Page | undefined): Promise<string> {
    if (!page) return 'there is no page yet';
    const seen = await resultWithin(
      page.evaluate(connectionState).catch(() => null),
      probeLimitMs,
    );
    if (seen === undefined) return 'the page does not answer';
    if (seen === null) return 'the page is not WhatsApp Web';
    // The session may have become ready during the probe.
    if (this.ended || this.ready || this.phase === 'incompatible') return seen.state;
    if (seen.state === deprecated) await this.closeRefused(`its state is ${seen.state}`);
    this.syncedSince =
      seen.state === 'CONNECTED' && seen.hasSynced ? (this.syncedSince ?? performance.now()) : null;
    if (seen.state === 'CONNECTED' || seen.state === 'PAIRING') this.enter('syncing');
    if (seen.state === 'CONNECTED') await this.mindNumber(page);
    if (seen.state === 'UNPAIRED_IDLE') await this.refreshQr(page);
    if (seen.hasSynced && !this.isAuthenticated && ++this.unnoticedSyncs === 4)
      page.evaluate(announceSynced).catch(() => undefined);
    const dialog = this.dialogs.open === null ? '' : `, under the dialog "${this.dialogs.open}"`;
    return `the page's state is ${seen.state}, ${seen.hasSynced ? 'synced' : 'not synced'}${dialog}`;
  }

  /** Keeps the QR code fresh: WhatsApp Web shows six codes, and then waits until a person asks for more. */
  private async refreshQr(page: Page): Promise<void> {
    if (this.options.pairWithPhoneNumber !== null) return;
    if (performance.now() - this.qrRefreshedAt < qrRefreshMs) return;
    this.qrRefreshedAt = performance.now();
    const refreshing = page.evaluate(refreshQr).catch((error: unknown) => {
      this.options.onWarning('the QR code could not be refreshed', error);
    });
    if (await resultWithin(refreshing, probeLimitMs)) this.qrsShown = 0;
  }

  /** The reason to close the session if the present phase has missed its deadline; otherwise null. */
  private missedDeadline(shown: string): [CloseReason, string] | null {
    const { launchMs, loadMs, syncMs } = this.options.deadlines;
    const isOver = (ms: number) => performance.now() - this.phaseSince > ms;
    if (this.phase === 'launching' && isOver(launchMs))
      return ['launch_timeout', `the browser did not start within ${launchMs} ms`];
    if (this.phase === 'loading' && isOver(loadMs))
      return [
        'load_timeout',
        `WhatsApp Web showed no QR code and no linked account within ${loadMs} ms: ${shown}`,
      ];
    if (this.phase === 'syncing' && isOver(syncMs))
      return ['sync_timeout', `not ready within ${syncMs} ms: ${shown}`];
    return null;
  }

  private async closeRefused(why: string): Promise<void> {
    await this.close('version_refused', this.refusedBecause(why));
  }

  private refusedBecause(why: string): string {
    const version = this.index.version ?? this.webVersion ?? 'the version that it served';
    return `WhatsApp no longer accepts ${version} of WhatsApp Web: ${why}`;
  }

  private async close(reason: CloseReason, detail: string): Promise<void> {
    if (this.ended) return;
    await this.stop();
    this.emit('closed', reason, detail);
  }
}

/**
 * Ignores the errors of the pipes to a browser. Puppeteer stops listening when it closes its connection. If the browser is
 * killed with unread data, its pipe then breaks (ECONNRESET), and an unhandled error ends this process.
 */
function ignorePipeErrors(browser: Browser): void {
  for (const pipe of browser.process()?.stdio ?? []) pipe?.on('error', () => undefined);
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort');
}
