import puppeteer, { type Browser } from 'puppeteer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/platform/config/config.js';
import { Flotilla } from '../support/flotilla.js';

/** The pages that people open, in a real browser: what their content security policy forbids, they must not need. */
let flotilla: Flotilla;
let browser: Browser;

beforeAll(async () => {
  flotilla = await Flotilla.start({ programs: ['api'], env: { NODE_ENV: 'production' } });
  const { chromiumPath } = loadConfig({ ...process.env, ...flotilla.stack.env }).sessions;
  browser = await puppeteer.launch({ executablePath: chromiumPath!, args: ['--no-sandbox'], pipe: true });
});
afterAll(async () => {
  await browser?.close();
  await flotilla?.stop();
});

describe('in a browser', () => {
  it.each([
    ['/admin/queues', 'whatsapp-urgent'],
    ['/docs', 'Flotilla'],
  ])('%s asks for a login, then shows everything', async (path, text) => {
    const { api } = flotilla.stack.urls;
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    const complaints: string[] = [];
    page.on('console', (message) => {
      if (['error', 'warn'].includes(message.type())) complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(String(error)));
    const elsewhere: string[] = [];
    page.on('request', (request) => {
      if (!request.url().startsWith(api) && !request.url().startsWith('data:')) elsewhere.push(request.url());
    });
    await page.goto(`${api}${path}`);
    expect(new URL(page.url()).pathname).toBe('/admin/login');
    await page.type('input[name=key]', flotilla.adminKey);
    await Promise.all([page.waitForNavigation(), page.click('button')]);
    expect(new URL(page.url()).pathname).toBe(path);
    const shown = `document.body.innerText.includes(${JSON.stringify(text)}) && !document.body.innerText.includes("Loading")`;
    await page.waitForFunction(shown, { timeout: 20_000 }).catch(async (error: unknown) => {
      const seen = await page.evaluate('document.body.innerText.slice(0, 500)');
      throw new Error(`the page shows ${JSON.stringify(seen)} and says ${complaints.join('; ')}`, {
        cause: error,
      });
    });
    if (process.env.SCREENSHOTS) {
      await page.screenshot({ path: `${process.env.SCREENSHOTS}/${path.replaceAll('/', '_')}.png` });
    }
    expect(complaints.filter((complaint) => !complaint.includes('fonts.googleapis.com'))).toEqual([]);
    expect(elsewhere.filter((url) => !url.startsWith('https://fonts.googleapis.com/'))).toEqual([]);
    await context.close();
  });
});
