import { EventEmitter } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { Browser } from 'puppeteer';
import whatsapp, { type Client } from 'whatsapp-web.js';
import { claimProfile, killGroup } from './browser-profile.js';
import { launchOptions, type Network } from './browser-launch.js';
import {
  acksOf,
  announceSynced,
  connectionState,
  hasFlotilla,
  installFlotilla,
  logOut,
  type PageEvent,
  type PageMessage,
  type PageSendResult,
  recentIncoming,
  sendText,
} from './page-functions.js';

/** Why a session ended by itself. */
export type CloseReason = 'logged_out' | 'conflict' | 'unpaired' | 'crashed' | 'start_timeout';

export interface SessionEvents {
  /** A QR code to be scanned; it is good for `expiresInMs`. */
  qr: [qr: string, expiresInMs: number];
  /** A pairing code to be typed into the phone. */
  code: [code: string, expiresInMs: number];
  /** The account is linked and WhatsApp hands over what happened meanwhile. */
  syncing: [];
  ready: [who: { phoneNumber: string | null; lid: string | null }];
  /** WhatsApp's ack of a message: −1 error, 1 server, 2 device, 3 read, 4 played. */
  ack: [ack: { whatsappId: string; ack: number }];
  message: [message: PageMessage];
  /** The session has ended without being asked to; its browser is gone. */
  closed: [reason: CloseReason, detail: string];
}

export interface SessionOptions {
  accountId: string;
  /** The browser profile of this account: its credentials. */
  profileDir: string;
  chromiumPath: string;
  network: Network;
  /** Links by pairing code with this phone number instead of by QR code. */
  pairWithPhoneNumber: string | null;
  /** How long each phase before a QR code, and before `ready`, may take. */
  startTimeoutMs: number;
  onWarning: (message: string, error: unknown) => void;
}

/** WhatsApp shows the first QR code for a minute, the next ones for 20 s each. */
const firstQrLifetimeMs = 60_000;
const qrLifetimeMs = 20_000;
const pairingCodeLifetimeMs = 180_000;
const probeMs = 250;
/** How long the page gathers acks and incoming messages before it tells them together. */
const gatherMs = 20;
const closeMs = 5_000;
const finishSendsMs = 10_000;
const launchMs = 15_000;
const logoutMs = 10_000;

/** One account in one browser: whatsapp-web.js behind plain calls and plain events. */
export class WhatsAppSession extends EventEmitter<SessionEvents> {
  private client: Client | null = null;
  private browser: Browser | null = null;
  private ended = false;
  private isReady = false;
  private isAuthenticated = false;
  private isBound = false;
  private qrsShown = 0;
  /** A person is expected to scan or type: no deadline runs. */
  private isWaitingForPerson = false;
  private starting: Promise<void> | null = null;
  private confirmedLogout: (() => void) | null = null;
  private readonly sends = new Set<Promise<unknown>>();

  constructor(private readonly options: SessionOptions) {
    super();
  }

  get ready(): boolean {
    return this.isReady && !this.ended;
  }

  /**
   * Starts the browser, loads WhatsApp, and returns once it shows a QR code, asks for a code or restores the session.
   * What follows is told by events.
   * @throws when the browser or the page does not start
   */
  async start(): Promise<void> {
    this.starting = this.launch();
    await this.starting;
  }

  private async launch(): Promise<void> {
    if (this.ended) return;
    await claimProfile(this.options.profileDir);
    if (this.ended) return;
    const client = new whatsapp.Client({
      puppeteer: launchOptions(
        this.options.chromiumPath,
        this.options.profileDir,
        this.options.network,
      ) as never,
      webVersionCache: { type: 'none' },
      authTimeoutMs: this.options.startTimeoutMs,
      takeoverOnConflict: false,
      ...(this.options.pairWithPhoneNumber
        ? { pairWithPhoneNumber: { phoneNumber: this.options.pairWithPhoneNumber } }
        : {}),
    });
    this.client = client;
    this.listen(client);
    try {
      await withDeadline(client.initialize(), this.options.startTimeoutMs, 'WhatsApp Web did not load');
      this.adoptBrowser(client);
    } catch (error) {
      this.adoptBrowser(client);
      this.ended = true;
      await this.closeBrowser();
      throw error;
    }
    // Stopped meanwhile: the browser that was being launched must not stay behind, linked and owned by nobody.
    if (this.ended) await this.closeBrowser();
    else void this.watchUntilReady(client);
  }

  /**
   * Lets running sends finish, closes the browser, and kills its process group when it does not close in time.
   * Credentials stay.
   */
  async stop(): Promise<void> {
    this.ended = true;
    this.isReady = false;
    await Promise.race([Promise.allSettled(this.sends), delay(finishSendsMs, undefined, { ref: false })]);
    this.client?.removeAllListeners();
    await this.closeBrowser();
    // A launch that is still going on closes its own browser when it sees that the session has ended.
    await Promise.race([this.starting?.catch(() => undefined), delay(launchMs, undefined, { ref: false })]);
  }

  private async closeBrowser(): Promise<void> {
    const browser = this.browser ?? (this.client?.pupBrowser as Browser | undefined) ?? null;
    const pid = browser?.process()?.pid;
    if (!browser) return;
    const closed = browser
      .close()
      .catch((error: unknown) => this.options.onWarning('the browser did not close', error));
    await Promise.race([closed, delay(closeMs, undefined, { ref: false })]);
    if (pid !== undefined && browser.process()?.exitCode === null) killGroup(pid);
  }

  /**
   * Unlinks the account at WhatsApp and closes the browser.
   * @returns whether WhatsApp confirmed the logout; only then may the credentials be deleted
   */
  async logout(): Promise<boolean> {
    const confirmed = new Promise<boolean>((resolve) => {
      this.confirmedLogout = () => resolve(true);
    });
    await this.page.evaluate(logOut).catch((error: unknown) => {
      // The page navigates away while it logs out: the confirmation below decides.
      this.options.onWarning('the page went away during logout', error);
    });
    const result = await Promise.race([confirmed, delay(logoutMs, false, { ref: false })]);
    await this.stop();
    return result;
  }

  /** Sends a text under `whatsappId`, or tells how far that id got when WhatsApp knows it already. */
  async sendText(
    chatId: string,
    text: string,
    whatsappId: string,
    thorough: boolean,
    timeoutMs: number,
  ): Promise<PageSendResult> {
    const sending = this.page.evaluate(sendText, chatId, text, whatsappId, thorough, timeoutMs);
    this.sends.add(sending);
    try {
      return await sending;
    } finally {
      this.sends.delete(sending);
    }
  }

  /** The present acks of messages that this account sent, as far as the page knows them. */
  async acksOf(
    messages: { chatId: string; whatsappId: string }[],
  ): Promise<{ whatsappId: string; ack: number }[]> {
    return this.page.evaluate(acksOf, messages);
  }

  /** The latest incoming messages that the page holds, oldest first. */
  async recentIncoming(limit: number): Promise<PageMessage[]> {
    return this.page.evaluate(recentIncoming, limit);
  }

  /** The chat id of a phone number, or null when it has no WhatsApp. */
  async chatIdOf(phone: string): Promise<string | null> {
    const found = await this.client!.getNumberId(phone);
    return found?._serialized ?? null;
  }

  /** A PNG of what the page shows. */
  async screenshot(): Promise<Uint8Array> {
    return this.page.screenshot({ type: 'png' });
  }

  private get page() {
    const page = this.client?.pupPage;
    if (!page) throw new Error('The browser of this account is not running.');
    return page;
  }

  private listen(client: Client): void {
    client.on('qr', (qr) => {
      this.isWaitingForPerson = true;
      this.emit('qr', qr, this.qrsShown === 0 ? firstQrLifetimeMs : qrLifetimeMs);
      this.qrsShown += 1;
    });
    client.on('code', (code) => {
      this.isWaitingForPerson = true;
      this.emit('code', code, pairingCodeLifetimeMs);
    });
    client.on('authenticated', () => {
      this.isAuthenticated = true;
      this.isWaitingForPerson = false;
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

  private adoptBrowser(client: Client): void {
    this.browser = (client.pupBrowser as Browser | undefined) ?? null;
    this.browser?.once('disconnected', () => void this.close('crashed', 'the browser ended'));
    // A renderer that dies leaves its browser running, with a page that answers nothing.
    client.pupPage?.once('error', (error) => void this.close('crashed', String(error)));
    client.pupPage?.on('framenavigated', (frame) => {
      if (!frame.parentFrame()) void this.checkAfterNavigation(client);
    });
  }

  /** When the page has loaded anew, by itself, nothing can be sent until it is ready again. */
  private async checkAfterNavigation(client: Client): Promise<void> {
    const isInstalled = await client.pupPage?.evaluate(hasFlotilla).catch(() => false);
    if (isInstalled || !this.isReady || this.ended) return;
    this.isReady = false;
    this.isAuthenticated = false;
    void this.watchUntilReady(client);
  }

  private async becomeReady(client: Client): Promise<void> {
    if (this.ended) return;
    try {
      // A page that was reloaded becomes ready again, and has lost what was installed in it.
      await this.bindEvents();
      await this.page.evaluate(installFlotilla, gatherMs);
      if (this.isReady) return;
      const wid = (client.info as { wid?: { _serialized?: string; user?: string } } | undefined)?.wid;
      const isLid = wid?._serialized?.endsWith('@lid') ?? false;
      this.isReady = true;
      this.emit('ready', {
        phoneNumber: isLid ? null : (wid?.user ?? null),
        lid: isLid ? wid!._serialized! : null,
      });
    } catch (error) {
      await this.close('crashed', `the page was lost while it became ready: ${String(error)}`);
    }
  }

  /** Lets the page tell its events, one way: unlike puppeteer's exposed functions a binding waits for no answer. */
  private async bindEvents(): Promise<void> {
    if (this.isBound) return;
    this.isBound = true;
    const devtools = await this.page.createCDPSession();
    devtools.on('Runtime.bindingCalled', ({ name, payload }) => {
      if (name !== 'flotillaEmit') return;
      for (const event of JSON.parse(payload) as PageEvent[]) {
        if (event.kind === 'ack') this.emit('ack', event);
        else this.emit('message', event.message);
      }
    });
    await devtools.send('Runtime.enable');
    await devtools.send('Runtime.addBinding', { name: 'flotillaEmit' });
  }

  /** Follows the page until it is ready, nudges the library when it missed the event, and gives up at the deadline. */
  private async watchUntilReady(client: Client): Promise<void> {
    let deadline = Date.now() + this.options.startTimeoutMs;
    let announcedSyncing = false;
    let syncedProbes = 0;
    while (!this.ended && !this.isReady) {
      const seen = await client.pupPage?.evaluate(connectionState).catch(() => null);
      // The page may have become ready while it was asked.
      if (this.ended || this.isReady) return;
      if (this.isWaitingForPerson) deadline = Date.now() + this.options.startTimeoutMs;
      if (seen && !announcedSyncing && (seen.state === 'CONNECTED' || seen.state === 'PAIRING')) {
        announcedSyncing = true;
        this.isWaitingForPerson = false;
        this.emit('syncing');
      }
      if (seen?.hasSynced && !this.isAuthenticated && ++syncedProbes === 4) {
        await client.pupPage?.evaluate(announceSynced).catch(() => null);
      }
      if (Date.now() > deadline) {
        await this.close(
          'start_timeout',
          `not ready in time; the page's state is ${seen?.state ?? 'unknown'}`,
        );
        return;
      }
      await delay(probeMs, undefined, { ref: false });
    }
  }

  private async close(reason: CloseReason, detail: string): Promise<void> {
    if (this.ended) return;
    await this.stop();
    this.emit('closed', reason, detail);
  }
}

async function withDeadline<Result>(work: Promise<Result>, ms: number, what: string): Promise<Result> {
  const timer = new AbortController();
  const timeout = delay(ms, undefined, { signal: timer.signal, ref: false }).then(() => {
    throw new Error(`${what} within ${ms} ms.`);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    timer.abort();
    timeout.catch(() => undefined);
  }
}
