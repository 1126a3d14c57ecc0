import { Client } from 'pg';
import puppeteer, { type Browser } from 'puppeteer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/platform/config/config.js';
import { Flotilla } from '../support/flotilla.js';

/** The pages that people open, in a real browser: what their content security policy forbids, they must not need. */
let flotilla: Flotilla;
let browser: Browser;

beforeAll(async () => {
  flotilla = await Flotilla.start({
    programs: ['sandbox', 'api'],
    env: { NODE_ENV: 'production', SANDBOX: '' },
  });
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

describe('in production, unless it is asked for', () => {
  it('there is no sandbox: no program, no account', async () => {
    expect(
      [...(await flotilla.stack.status()).keys()].filter((name) => name.startsWith('flotilla:')),
    ).toEqual(['flotilla:api']);
    const workspace = await flotilla.newWorkspace();
    const { status, body } = await workspace.call('POST', '/accounts', { name: 'x', environment: 'sandbox' });
    expect([status, body.code, body.detail]).toEqual([
      409,
      'sandbox.off',
      expect.stringContaining('SANDBOX=true'),
    ]);
    expect((await workspace.call('POST', '/accounts', { name: 'x' })).status).toBe(201);
  });

  it('an account of the sandbox from before is refused with the cure', async () => {
    const workspace = await flotilla.newWorkspace();
    const { body: account } = await workspace.call('POST', '/accounts', { name: 'x' });
    const database = new Client({ connectionString: flotilla.stack.env.DATABASE_URL });
    await database.connect();
    await database.query(`update accounts set environment = 'sandbox' where id = $1`, [account.id]);
    await database.end();
    const { status, body } = await workspace.call('POST', `/accounts/${account.id}/connect`);
    expect([status, body.code]).toEqual([409, 'sandbox.off']);
    expect((await workspace.account(account.id)).desiredState).toBe('disconnected');
  });
});
