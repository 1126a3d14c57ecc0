import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Page } from 'puppeteer';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ContractWatch } from '../../src/whatsapp/contract-watch.js';
import { pageContract } from '../../src/whatsapp/in-page/page-contract.js';
import type { WebState } from '../../src/whatsapp/session-events.js';
import { fake } from '../support/fake.js';

const root = join(import.meta.dirname, '../..');
const read = (...path: string[]) => readFileSync(join(root, ...path), 'utf8');

/** What the contract names: `Module` and `Module.member`. */
const names = Object.values(pageContract)
  .flat()
  .map((name) => name.replace('()', ''));
const isNamed = (need: string) => names.some((name) => name === need || name.startsWith(`${need}.`));

/** The modules, and their members where the text says them, that a piece of code asks the page for. */
function asksFor(code: string): string[] {
  const found: string[] = [];
  for (const [, module, members] of code.matchAll(/\brequire\(\s*'(\w+)',?\s*\)((?:\s*\.\s*\w+)*)/g)) {
    const path = members!.replace(/\s/g, '');
    // What comes after a call or an assignment is no part of the name.
    found.push(`${module}${path}`);
  }
  for (const [, members, module] of code.matchAll(
    /const \{([^}]*)\}\s*=\s*window\s*\.require\(\s*'(\w+)',?\s*\)/g,
  ))
    for (const member of members!.split(',')) {
      const [name] = member.trim().split(':');
      if (name) found.push(`${module}.${name}`);
    }
  return found;
}

/** Modules that our code uses only if they are there, or that the library only uses for what Flotilla does not do. */
const notNeeded: Record<string, string> = {
  WAWebMediaInMemoryBlobCache: 'only if shouldUseMediaCache says so',
  WAWebGenerateEventCallLink: 'events are not sent',
  WAWebFrontendVcardUtils: 'cards of contacts come as text',
  WAWebVcardParsingUtils: 'cards of contacts come as text',
  WAWebVcardGetNameFromParsed: 'cards of contacts come as text',
  WAWebBotMessageSecret: 'bots are not invoked',
  WAWebBotProfileCollection: 'bots are not invoked',
  WAWebNonMessageDataRequestPlaceholderMessageResendUtils: 'only for a message that cannot be decrypted',
  WAWebLaunchSocketUtils: 'one of three ways to refresh QR codes',
  WAWebBackendEventBus: 'one of three ways to refresh QR codes',
  WAWebLidMigrationUtils: 'models of chats are not asked for',
};

describe('the page contract', () => {
  const folder = 'src/whatsapp/in-page';
  const ours = readdirSync(join(root, folder)).filter(
    (name) => !['page-contract.ts', 'page-modules.ts'].includes(name),
  );

  it.each(ours)('names what %s asks the page for', (file) => {
    const missing = asksFor(read(folder, file)).filter(
      (need) => !isNamed(need) && !(need.split('.')[0]! in notNeeded),
    );
    expect(missing).toEqual([]);
  });

  it('names the modules of the functions of whatsapp-web.js that Flotilla calls, and of those that they call', () => {
    const library = read('node_modules/whatsapp-web.js/src/util/Injected/Utils.js');
    const bodies = new Map(
      library
        .split(/(?=^ {4}window\.WWebJS\.\w+ = )/m)
        .map((text) => [/^ {4}window\.WWebJS\.(\w+) = /.exec(text)?.[1], text] as const),
    );
    const code = ours.map((file) => read(folder, file)).join('\n');
    const called = new Set([...code.matchAll(/WWebJS\.(\w+)\(/g)].map(([, name]) => name!));
    // The library's own listeners call it for every event.
    called.add('getMessageModel');
    expect(called.size).toBeGreaterThan(3);
    for (const name of called) {
      expect(names).toContain(`WWebJS.${name}`);
      const body = bodies.get(name) ?? '';
      expect(body).not.toBe('');
      for (const [, inner] of body.matchAll(/WWebJS\.(\w+)\(/g)) if (!helpers.has(inner!)) called.add(inner!);
      const modules = asksFor(body).map((need) => need.split('.')[0]!);
      expect(modules.filter((module) => !isNamed(module) && !(module in notNeeded))).toEqual([]);
    }
  });

  it('names what whatsapp-web.js needs to start', () => {
    const client = read('node_modules/whatsapp-web.js/src/Client.js');
    const start = client.slice(client.indexOf('async inject()'), client.indexOf('async initialize()'));
    const listeners = client.slice(
      client.indexOf('async attachEventListeners()'),
      client.indexOf('async initWebVersionCache()'),
    );
    const store = read('node_modules/whatsapp-web.js/src/util/Injected/AuthStore/AuthStore.js');
    const modules = asksFor(start + listeners + store).map((need) => need.split('.')[0]!);
    expect(modules.length).toBeGreaterThan(10);
    expect(modules.filter((module) => !isNamed(module) && !(module in notNeeded))).toEqual([]);
  });
});

/** Functions of the library that ask the page for nothing, or that only a function for something else calls. */
const helpers = new Set([
  'getFileHash',
  'generateHash',
  'generateWaveform',
  'arrayBufferToBase64',
  'assertColor',
  'getChatModel',
]);

describe('the watch of a page', () => {
  let states: WebState[] = [];
  /** How far the clock is ahead. */
  let aheadMs = 0;
  beforeEach(() => {
    [states, aheadMs] = [[], 0];
    const now = performance.now.bind(performance);
    vi.spyOn(performance, 'now').mockImplementation(() => now() + aheadMs);
  });
  afterEach(() => void vi.restoreAllMocks());
  const watch = () => new ContractWatch((state) => states.push(state), { recheckMs: 600_000, ignored: [] });
  const passes = (ms: number) => (aheadMs += ms);
  /** A page in which these modules are missing, one comparison after the other, and in which one function fails to install. */
  function pageThat(missing: string[][], failing?: string): Page {
    let comparisons = 0;
    const evaluate = async (code: unknown): Promise<unknown> => {
      if (typeof code === 'string') return code.includes(`function ${failing}(`) ? 'Error: no' : null;
      const names = missing[Math.min(comparisons++, missing.length - 1)]!;
      return { version: '2.3000.1', missing: names.map((name) => ({ need: 'sending', name })) };
    };
    return fake<Page>({ evaluate: evaluate as Page['evaluate'] });
  }

  it('compares a page three times before it is broken, because a page that still loads may lack a module', async () => {
    const [loading, broken] = [watch(), watch()];
    await Promise.all([
      loading.prepare(pageThat([['A'], ['A'], []]), () => false),
      broken.prepare(pageThat([['A'], ['A'], ['A'], []]), () => false),
    ]);
    expect([loading.isWhole, broken.isWhole]).toEqual([true, false]);
    expect(states).toHaveLength(2);
  });

  it('counts a page as broken if a function of ours cannot be installed in it', async () => {
    await watch().prepare(pageThat([[]], 'installTyping'), () => true);
    expect(states).toEqual([
      { version: '2.3000.1', contract: 'broken', missing: ['installTyping: Error: no'] },
    ]);
  });

  it('compares a broken page again after 30 s, loads it again after ten minutes or when asked to, and a whole page never', async () => {
    const whole = watch();
    await whole.prepare(pageThat([[]]), () => true);
    const broken = watch();
    await broken.prepare(pageThat([['A']]), () => true);
    const asked = watch();
    await asked.prepare(pageThat([['A']]), () => true);
    for (const watched of [whole, asked]) watched.recheckNow();
    expect([whole, broken, asked].map((watched) => watched.due())).toEqual([null, null, 'reload']);
    passes(30_000);
    expect([whole, broken].map((watched) => watched.due())).toEqual([null, 'look']);
    // A comparison that finds the same does not put the next load off.
    await broken.prepare(pageThat([['A']]), () => true);
    expect(broken.due()).toBeNull();
    passes(570_000);
    expect([whole, broken].map((watched) => watched.due())).toEqual([null, 'reload']);
  });

  it('trusts a page that sends have found broken only after it was loaded again', async () => {
    const watched = watch();
    await watched.prepare(pageThat([[]]), () => true);
    watched.distrust('TypeError: no', 60_000);
    expect(states.at(-1)).toEqual({ version: '2.3000.1', contract: 'broken', missing: ['TypeError: no'] });
    passes(59_000);
    expect(watched.due()).toBeNull();
    passes(1_000);
    expect(watched.due()).toBe('reload');
    watched.distrust('TypeError: no', 3_600_000);
    passes(600_000);
    expect(watched.due()).toBe('reload');
  });
});
