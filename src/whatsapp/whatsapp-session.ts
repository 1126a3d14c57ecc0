import type { MessageTarget } from './message-target.js';
import { EventEmitter, once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { Browser, LaunchOptions, Page } from 'puppeteer';
import whatsapp, { type Client } from 'whatsapp-web.js';
import { launchOptions } from './browser/launch.js';
import { resultWithin, withDeadline } from './deadlines.js';
import { DialogWatch, dialogTextLength, probeLimitMs } from './dialog-watch.js';
import { browsersEnded, groupEnded, memoryOf } from './browser/processes.js';
import { PageBridge } from './bridge.js';
import { SessionChats } from './session-chats.js';
import { claimProfile } from './browser/profile.js';
import { actOn, type PageAction, type PageActionResult } from './in-page/page-actions.js';
import { installEvents } from './in-page/page-events.js';
import {
  installFlotilla,
  type PageEvent,
  type PageSend,
  type PageSendResult,
} from './in-page/page-functions.js';
import { SessionMessages } from './session-messages.js';
import { installPersons } from './in-page/page-persons.js';
import { expectFile, forgetFile, installSending, sendMessage } from './in-page/page-send.js';
import { installShims } from './in-page/page-shims.js';
import { installTyping } from './in-page/page-typing.js';
import {
  announceSynced,
  connectionState,
  hasFlotilla,
  logOut,
  type OwnIds,
  readOwnIds,
  reconnectSocket,
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
const pairingCodeLifetimeMs = 180_000;
const probeMs = 250;
/** How long the page gathers events before it reports them together. */
const gatherMs = 20;
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
/** The phases of a session. In `linking` a person must scan or type a code. */
type Phase = 'launching' | 'loading' | 'linking' | 'syncing' | 'ready';

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
  private qrsShown = 0;
  private starting: Promise<void> | null = null;
  private confirmedLogout: (() => void) | null = null;
  private readonly operations = new Set<Promise<unknown>>();
  private readonly dialogs: DialogWatch;

  constructor(private readonly options: SessionOptions) {
    super();
    this.dialogs = new DialogWatch({
      onOpen: (text) => {
        if (!this.ended) this.emit('action_required', text);
      },
      onWarning: options.onWarning,
    });
  }

  get ready(): boolean {
    return this.phase === 'ready' && !this.ended;
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
    const { accountId, chromiumPath, profileDir, network, deadlines, pairWithPhoneNumber } = this.options;
    await claimProfile(profileDir);
    if (this.ended) return;
    // This class watches the deadlines of the phases, so the timeouts of puppeteer and of the library must not come first.
    const puppeteer: LaunchOptions = {
      ...launchOptions(chromiumPath, profileDir, network),
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
    // It reads the page's HTML for an unused cache, and causes an unhandled rejection if the browser ends during that.
    Object.assign(client, { initWebVersionCache: async () => undefined });
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
    } catch (error) {
      // The session was ended during the start, which made the start fail. The caller that ended it closes the browser.
      if (this.ended) return;
      this.ending.abort();
      client.removeAllListeners();
      await this.endBrowser(closeMs);
      throw error;
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
   * @returns whether WhatsApp confirmed the logout; the caller may delete the credentials only if it did
   */
  async logout(): Promise<boolean> {
    const confirmed = new Promise<boolean>((resolve) => {
      this.confirmedLogout = () => resolve(true);
    });
    this.page.evaluate(logOut).catch((error: unknown) => {
      // The page navigates away while it logs out. Only the confirmation decides.
      this.options.onWarning('the page was lost during logout', error);
    });
    const result = await Promise.race([confirmed, delay(logoutMs, false, { ref: false })]);
    await this.stop();
    return result;
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
    return this.track(sending, send.timeoutMs + typingMs + answerMs);
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
    const group = this.browser?.process()?.pid;
    return group === undefined ? 0 : memoryOf(group);
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
    client.on('ready', () => void this.becomeReady(client));
    client.on('disconnected', (reason) => {
      const text = String(reason);
      if (text === 'LOGOUT' && this.confirmedLogout) this.confirmedLogout();
      else if (text === 'LOGOUT') void this.close('logged_out', 'unlinked from the phone');
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
    if (this.ended) return;
    this.follow(this.page);
    let own: OwnIds;
    try {
      // A reloaded page becomes ready again, but has lost the installed functions.
      this.bridge ??= await withDeadline(
        PageBridge.open(this.page, (event) => this.emitPageEvent(event)),
        answerMs,
      );
      await withDeadline(this.page.evaluate(installShims), answerMs);
      await withDeadline(this.page.evaluate(installFlotilla), answerMs);
      await withDeadline(this.page.evaluate(installTyping), answerMs);
      await withDeadline(this.page.evaluate(installPersons), answerMs);
      await withDeadline(this.page.evaluate(installSending), answerMs);
      await withDeadline(this.page.evaluate(installEvents, gatherMs), answerMs);
      own = await withDeadline(this.page.evaluate(readOwnIds), answerMs);
    } catch (error) {
      await this.close('crashed', `the page was lost while it became ready: ${String(error)}`);
      return;
    }
    if (this.ended || this.ready) return;
    this.enter('ready');
    this.emit('ready', { phoneNumber: own.phone ?? client.info?.wid?.user ?? null, lid: own.lid });
  }

  private emitPageEvent(event: PageEvent): void {
    if (event.kind === 'ack') this.emit('ack', event);
    else if (event.kind === 'message') this.emit('message', event.message);
    else if (event.kind === 'group') this.emit('group', event);
    else this.emit('change', event);
  }

  /** Watches the browser and its page from the launch to the end. Closes the session if a phase misses its deadline. */
  private async watch(client: Client): Promise<void> {
    while (!this.ended) {
      const page = client.pupPage as Page | undefined;
      if (page) this.follow(page);
      const shown = this.phase === 'ready' ? '' : await this.probe(page);
      if (page) await this.dialogs.lookAt(page, this.phase === 'ready');
      const late = this.missedDeadline(shown);
      if (late && !this.ended) await this.close(...late);
      await delay(probeMs, undefined, { ref: false });
    }
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
    if (this.ended || this.ready) return seen.state;
    if (seen.state === 'CONNECTED' || seen.state === 'PAIRING') this.enter('syncing');
    if (seen.hasSynced && !this.isAuthenticated && ++this.unnoticedSyncs === 4)
      page.evaluate(announceSynced).catch(() => undefined);
    const dialog = this.dialogs.open === null ? '' : `, under the dialog "${this.dialogs.open}"`;
    return `the page's state is ${seen.state}, ${seen.hasSynced ? 'synced' : 'not synced'}${dialog}`;
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
