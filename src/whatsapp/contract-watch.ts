import { setTimeout as delay } from 'node:timers/promises';
import type { Page } from 'puppeteer';
import { resultWithin, withDeadline } from './deadlines.js';
import {
  type ContractNeed,
  essentialNeeds,
  findMissing,
  pageContract,
  startNeeds,
} from './in-page/page-contract.js';
import { installCalls } from './in-page/page-calls.js';
import { installEvents } from './in-page/page-events.js';
import { noticeTypes } from './notices.js';
import { installFlotilla } from './in-page/page-functions.js';
import { installPersons } from './in-page/page-persons.js';
import { installPosts } from './in-page/page-posts.js';
import { installSending } from './in-page/page-send.js';
import { installShims } from './in-page/page-shims.js';
import { installTyping } from './in-page/page-typing.js';
import type { WebOptions, WebState } from './session-events.js';

/** How long the page may take for a short answer. */
const answerMs = 15_000;
/** How long the page gathers events before it reports them together. */
export const gatherMs = 20;
/** How long the page may take to correct the outcome of a call. */
const callCorrectionMs = 2_000;
/** A page that still loads may lack a module for a moment. */
const tries = 3;
const pauseMs = 1_000;
/** How often a page with a broken contract is compared again without loading it. */
const lookAgainMs = 30_000;
/** How many names of missing things are kept, and how much of each. */
const maxMissing = 30;
const maxNameLength = 200;

const defaults: WebOptions = { recheckMs: 10 * 60_000, ignored: [] };

interface Missing {
  need: ContractNeed;
  name: string;
}

/** Compares the page with the contract, and says when a page that breaks it is to be compared or loaded again. */
export class ContractWatch {
  /** What the page was found to be. Null before the first comparison. */
  private state: WebState | null = null;
  /** Whether the session is used although the library is not ready. Then only a new load of the page can mend it. */
  isWithoutLibrary = false;
  /** Whether sends have shown that the page is broken, although it meets the contract. */
  private isDistrusted = false;
  /** What the page last said of its version. */
  version: string | null = null;
  private reloadAt = Infinity;
  private lookAgainAt = Infinity;

  constructor(
    private readonly onCheck: (state: WebState) => void,
    private readonly options = defaults,
  ) {}

  /**
   * Mends the page, installs our functions, and compares the page with the contract. A failure in the page does not end the
   * session: it breaks the contract.
   * @throws if the page is lost or does not answer
   */
  async prepare(page: Page, isOver: () => boolean): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      const failures = [await failureOf(page, installShims)];
      const finding = await withDeadline(page.evaluate(findMissing, pageContract, true), answerMs);
      for (const install of [installFlotilla, installTyping, installPersons, installSending])
        failures.push(await failureOf(page, install));
      failures.push(await failureOf(page, installEvents, gatherMs, noticeTypes));
      // Messages need neither.
      const optional = [
        await failureOf(page, installCalls, callCorrectionMs),
        await failureOf(page, installPosts),
      ].filter((failure) => failure !== null);
      const { version, missing } = finding ?? {
        version: null,
        missing: [{ need: 'connection', name: 'require()' }] satisfies Missing[],
      };
      const essential = [
        ...missing.filter((part) => this.isEssential(part)).map(({ name }) => name),
        ...failures.filter((failure) => failure !== null),
      ];
      if (essential.length > 0 && attempt < tries && !isOver()) {
        await delay(pauseMs, undefined, { ref: false });
        continue;
      }
      this.isDistrusted = false;
      const others = missing.filter((part) => !this.isEssential(part)).map(({ name }) => name);
      others.push(...optional);
      // The essential names come first: they say why messages wait.
      this.set({
        version,
        contract: essential.length > 0 ? 'broken' : 'ok',
        missing: [...essential, ...others],
      });
      return;
    }
  }

  get isWhole(): boolean {
    return this.state?.contract === 'ok';
  }

  /** The names that keep the library from starting in this page. Empty if the page does not answer, or is not WhatsApp Web. */
  missingForStart(page: Page, isOver: () => boolean): Promise<string[]> {
    return this.missingIn(page, startNeeds, isOver);
  }

  /** The names that keep the library from becoming ready in a page that is connected. */
  missingForReady(page: Page, isOver: () => boolean): Promise<string[]> {
    return this.missingIn(page, [...essentialNeeds, ...startNeeds], isOver);
  }

  private async missingIn(
    page: Page,
    needs: readonly ContractNeed[],
    isOver: () => boolean,
  ): Promise<string[]> {
    for (let attempt = 1; ; attempt += 1) {
      // A page that does not answer says nothing about its build.
      const asked = page.evaluate(findMissing, pageContract, false).catch(() => null);
      const finding = await resultWithin(asked, answerMs);
      this.version = finding?.version ?? this.version;
      const missing = (finding?.missing ?? []).filter(
        ({ need, name }) => needs.includes(need) && !this.options.ignored.includes(name),
      );
      if (missing.length === 0 || attempt === tries || isOver()) return missing.map(({ name }) => name);
      await delay(pauseMs, undefined, { ref: false });
    }
  }

  /** The library cannot start in the page. */
  breakWith(missing: string[]): void {
    this.set({ version: this.version, contract: 'broken', missing });
  }

  /** Sends have shown that the page is broken. It counts as broken until it is loaded again, at the latest as any broken page. */
  distrust(reason: string, reloadAfterMs: number): void {
    this.isDistrusted = true;
    this.breakWith([reason]);
    this.reloadAt = performance.now() + Math.min(reloadAfterMs, this.options.recheckMs);
  }

  /** Loads a broken page again at the next opportunity. */
  recheckNow(): void {
    if (this.state?.contract === 'broken') this.reloadAt = 0;
  }

  /** What is due for a broken page: to load it again, or to compare it again. */
  due(): 'reload' | 'look' | null {
    const now = performance.now();
    if (now >= this.reloadAt) {
      this.reloadAt = now + this.options.recheckMs;
      this.isWithoutLibrary = false;
      return 'reload';
    }
    return now >= this.lookAgainAt && !this.isWithoutLibrary && !this.isDistrusted ? 'look' : null;
  }

  private isEssential({ need, name }: Missing): boolean {
    if (this.options.ignored.includes(name)) return false;
    return essentialNeeds.includes(need) || (this.isWithoutLibrary && startNeeds.includes(need));
  }

  private set({ version, contract, missing }: WebState): void {
    const state = {
      version,
      contract,
      missing: missing.slice(0, maxMissing).map((name) => name.slice(0, maxNameLength)),
    };
    this.version = version;
    const now = performance.now();
    if (contract === 'ok') this.reloadAt = Infinity;
    else if (this.reloadAt === Infinity) this.reloadAt = now + this.options.recheckMs;
    this.lookAgainAt = contract === 'ok' ? Infinity : now + Math.min(lookAgainMs, this.options.recheckMs);
    this.state = state;
    this.onCheck(state);
  }
}

/** Runs a function in the page. @returns what it throws there; null if it ends well. @throws if the page is lost */
async function failureOf<Arguments extends unknown[]>(
  page: Page,
  pageFunction: (...args: Arguments) => void,
  ...args: Arguments
): Promise<string | null> {
  const call = `(${pageFunction.toString()})(...${JSON.stringify(args)})`;
  const source = `(() => { try { ${call}; return null; } catch (error) { return String(error); } })()`;
  const failure = (await withDeadline(page.evaluate(source), answerMs)) as string | null;
  return failure === null ? null : `${pageFunction.name}: ${failure}`;
}
