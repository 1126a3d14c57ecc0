import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import puppeteer, { type Browser, type Page } from 'puppeteer';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { loadConfig } from '../../src/platform/config/config.js';
import { launchOptions } from '../../src/whatsapp/browser/launch.js';
import { packProfile, unpackProfile } from '../../src/whatsapp/browser/archive.js';
import { eventually } from '../support/eventually.js';

/** Writes credentials to local storage and IndexedDB, and records without a pause when it is told to: more than a busy WhatsApp Web ever writes. */
const page = `<!doctype html><title>profile</title><script>
  const open = () => new Promise((resolve, reject) => {
    const request = indexedDB.open('wawc', 1);
    request.onupgradeneeded = () => request.result.createObjectStore('records');
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const put = (database, key, value) => new Promise((resolve, reject) => {
    const transaction = database.transaction('records', 'readwrite');
    transaction.objectStore('records').put(value, key);
    transaction.oncomplete = resolve;
    transaction.onabort = () => reject(transaction.error);
  });
  window.written = 0;
  window.link = async () => {
    localStorage.setItem('credential', 'kept in local storage');
    document.cookie = 'credential=kept-in-a-cookie; max-age=100000';
    const database = await open();
    await put(database, 'credential', new Blob(['kept in a blob'.repeat(1000)]));
  };
  window.isWriting = false;
  window.write = async () => {
    const database = await open();
    window.isWriting = true;
    (async () => {
      while (window.isWriting) {
        const random = crypto.getRandomValues(new Uint8Array(1000));
        await put(database, window.written, { number: window.written, random });
        window.written += 1;
      }
    })();
  };
  window.read = async () => {
    const database = await open();
    const store = database.transaction('records').objectStore('records');
    const get = (request) => new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    const [blob, numbers] = await Promise.all([
      get(store.get('credential')), get(store.getAll(IDBKeyRange.lowerBound(0))),
    ]);
    return {
      localStorage: localStorage.getItem('credential'),
      blob: await blob.text(),
      numbers: numbers.filter(({ number }) => number !== undefined).map(({ number }) => number),
    };
  };
</script>`;

/** For two browsers, and the seconds during which Chromium delays its writes of local storage. */
const timeoutMs = 60_000;

let root: string;
let server: Server;
const browsers: Browser[] = [];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'profiles-'));
  server = createServer((_request, response) =>
    response.setHeader('content-type', 'text/html').end(page),
  ).listen(0, '127.0.0.1');
});
afterEach(async () => {
  await Promise.all(browsers.splice(0).map((browser) => browser.close()));
  server.closeAllConnections();
  server.close();
  await rm(root, { recursive: true, force: true, maxRetries: 5 });
}, timeoutMs);

async function openPage(profile: string): Promise<Page> {
  const { chromiumPath } = loadConfig().sessions;
  const browser = await puppeteer.launch(
    launchOptions(chromiumPath!, profile, { kind: 'live', proxyPort: null }),
  );
  browsers.push(browser);
  const [tab] = await browser.pages();
  await tab!.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  return tab!;
}

/** Chromium writes local storage to the disk some seconds after the page wrote it. */
async function localStorageIsWritten(profile: string): Promise<boolean> {
  const dir = join(profile, 'Default/Local Storage/leveldb');
  const logs = (await readdir(dir)).filter((name) => name.endsWith('.log'));
  const contents = await Promise.all(logs.map((name) => readFile(join(dir, name), 'latin1')));
  return contents.some((content) => content.includes('kept in local storage'));
}

it(
  'a profile packed while its browser writes opens elsewhere with everything written before',
  async () => {
    const first = await openPage(join(root, 'first'));
    await first.evaluate('link()');
    await eventually('local storage on disk', () => localStorageIsWritten(join(root, 'first')));

    for (let round = 0; round < 2; round += 1) {
      await first.evaluate('write()');
      const before = Number(await first.evaluate('written'));
      await eventually('more records', async () => Number(await first.evaluate('written')) > before + 500);
      const writtenBefore = Number(await first.evaluate('written'));
      const { archive } = await packProfile(join(root, 'first'), true, 2 ** 30);
      const writtenAfter = Number(await first.evaluate('written'));
      expect(writtenAfter, 'it was written while it was packed').toBeGreaterThan(writtenBefore);
      await first.evaluate('isWriting = false');

      const elsewhere = join(root, `elsewhere-${round}`);
      await unpackProfile(archive, elsewhere, 1);
      const copy = await openPage(elsewhere);
      const read = (await copy.evaluate('read()')) as {
        localStorage: string;
        blob: string;
        numbers: number[];
      };
      expect(read.localStorage).toBe('kept in local storage');
      expect(read.blob).toBe('kept in a blob'.repeat(1000));
      expect(read.numbers).toEqual(read.numbers.map((_number, index) => index));
      expect(read.numbers.length).toBeGreaterThanOrEqual(writtenBefore);
      await copy.browser().close();
    }
  },
  timeoutMs,
);
