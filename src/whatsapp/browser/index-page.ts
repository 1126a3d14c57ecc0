import type { CDPSession, HTTPResponse, Page, Protocol } from 'puppeteer';
import type { WebPage } from '../web-page.js';

const origin = 'https://web.whatsapp.com';
/** A larger index is not kept. The real one has less than 1 MB. */
const maxHtmlLength = 4 * 1024 * 1024;
/** A page that loads itself this often in this time is refused by WhatsApp: it tries to update, and gets the old page again. */
const maxLoads = 5;
const loadsWithinMs = 60_000;

/**
 * The index of a session's page: gives the browser the page of a version, or reads the page that WhatsApp serves.
 *
 * It stands in for the cache of whatsapp-web.js, at the same place. The library pauses every request of the page in this process,
 * also those of media; handles no error when the browser ends; and answers only the exact address, so that a load with a query gets
 * another version. This class pauses only the index.
 */
export class IndexPage {
  /** The HTML that WhatsApp served last. Null: the page was given, or could not be read. */
  served: string | null = null;
  /** Whether the browser has loaded a page that was given to it. */
  wasGiven = false;
  private session: CDPSession | null = null;
  private readonly loads: number[] = [];

  /**
   * @param given the page to give; null reads the page that WhatsApp serves
   * @param onRefused called when a given page keeps loading itself
   */
  constructor(
    private given: WebPage | null,
    private readonly options: { onRefused: () => void; onWarning: (message: string, error: unknown) => void },
  ) {}

  /** The version that is given. */
  get version(): string | null {
    return this.given?.version ?? null;
  }

  /** Whether the browser has loaded a given page more than once in the last minute. */
  get hasReloaded(): boolean {
    return this.loads.length > 1;
  }

  /** @throws if the browser ends */
  async attach(page: Page): Promise<void> {
    page.on('response', (response) => void this.read(page, response));
    if (this.given) await this.give(page, this.given);
  }

  /** From now on gives this page at each load, or lets the page of WhatsApp through. @throws if the browser ends */
  async give(page: Page, given: WebPage | null): Promise<void> {
    this.given = given;
    // WhatsApp Web has a service worker, which could answer with a page of its own.
    await page.setBypassServiceWorker(given !== null);
    if (!this.session) {
      const session = await page.createCDPSession();
      session.on('Fetch.requestPaused', (request) => void this.answer(session, request));
      this.session = session;
    }
    if (given)
      await this.session.send('Fetch.enable', {
        patterns: [{ urlPattern: `${origin}/*`, resourceType: 'Document', requestStage: 'Request' }],
      });
    else await this.session.send('Fetch.disable');
  }

  private async answer(
    session: CDPSession,
    { requestId, request }: Protocol.Fetch.RequestPausedEvent,
  ): Promise<void> {
    const { given } = this;
    try {
      if (!given || !isIndex(request.url)) {
        await session.send('Fetch.continueRequest', { requestId });
        return;
      }
      this.wasGiven = true;
      this.noteLoad();
      await session.send('Fetch.fulfillRequest', {
        requestId,
        responseCode: 200,
        responseHeaders: [
          { name: 'content-type', value: 'text/html; charset=utf-8' },
          { name: 'cache-control', value: 'no-store' },
        ],
        body: Buffer.from(given.html).toString('base64'),
      });
    } catch (error) {
      this.options.onWarning('the page of a version could not be given', error);
    }
  }

  /** Counts the loads of a given page in the last minute. */
  private noteLoad(): void {
    const now = performance.now();
    while (this.loads.length > 0 && this.loads[0]! < now - loadsWithinMs) this.loads.shift();
    if (this.loads.push(now) > maxLoads) this.options.onRefused();
  }

  private async read(page: Page, response: HTTPResponse): Promise<void> {
    const request = response.request();
    if (!request.isNavigationRequest() || request.frame() !== page.mainFrame() || !isIndex(response.url()))
      return;
    this.served = null;
    if (this.given || !response.ok()) return;
    this.wasGiven = false;
    try {
      const html = await response.text();
      // PostgreSQL keeps no text with this character.
      if (html.length <= maxHtmlLength && !html.includes('\0')) this.served = html;
    } catch (error) {
      // The page navigated away, or the browser ended.
      this.options.onWarning('the index of WhatsApp Web could not be read', error);
    }
  }
}

function isIndex(url: string): boolean {
  const { origin: at, pathname } = new URL(url);
  return at === origin && pathname === '/';
}
