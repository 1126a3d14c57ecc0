import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { argumentsOf, runningProcesses } from '../../src/platform/proc.js';
import { browsersOn } from '../../src/whatsapp/browser/processes.js';
import { claimProfile } from '../../src/whatsapp/browser/profile.js';
import { ProxyForwarder } from '../../src/whatsapp/browser/proxy-forwarder.js';
import { NotOwned, type SessionOptions } from '../../src/whatsapp/session-events.js';
import { WhatsAppSession } from '../../src/whatsapp/whatsapp-session.js';
import { httpProxy, socksProxy } from '../support/proxies.js';
import { chromiumPath, SandboxHarness, until } from './sandbox.harness.js';

const patient = { launchMs: 20_000, loadMs: 20_000, syncMs: 20_000 };

/** A session with everything that it told. */
class Watched {
  readonly session: WhatsAppSession;
  readonly told: string[] = [];
  readonly warnings: string[] = [];
  readonly actions: (string | null)[] = [];
  readonly profile: string;
  qr: string | null = null;

  constructor(name: string, options: Partial<SessionOptions> = {}) {
    this.profile = join(sandbox.dir, `session-${name}`);
    this.session = new WhatsAppSession({
      accountId: name,
      profileDir: this.profile,
      chromiumPath,
      network: { kind: 'sandbox', host: '127.0.0.1', port: sandbox.server.port, spki: sandbox.server.spki },
      pairWithPhoneNumber: null,
      deadlines: patient,
      canStart: () => true,
      onWarning: (message) => this.warnings.push(message),
      ...options,
    });
    this.session.on('qr', (qr) => (this.qr = qr));
    this.session.on('syncing', () => this.told.push('syncing'));
    this.session.on('ready', () => this.told.push('ready'));
    this.session.on('closed', (reason, detail) => this.told.push(`${reason}: ${detail}`));
    this.session.on('action_required', (text) => this.actions.push(text));
    sessions.push(this);
  }

  async untilTold(words: string): Promise<string> {
    return until(words, () => this.told.find((line) => line.startsWith(words)));
  }

  get browsers(): Promise<number> {
    return browsersOn(this.profile).then((found) => found.length);
  }
}

/** Moves the clock that the session and its dialogs read. */
function advanceClock(ms: number): void {
  const now = performance.now.bind(performance);
  vi.spyOn(performance, 'now').mockImplementation(() => now() + ms);
}

let sandbox: SandboxHarness;
let sessions: Watched[] = [];

beforeAll(async () => {
  sandbox = await SandboxHarness.start();
}, 30_000);

afterEach(async () => {
  vi.restoreAllMocks();
  await sandbox.call('DELETE', '/faults');
  await Promise.all(sessions.map(({ session }) => session.stop({ finishSendsMs: 0, closeMs: 0 })));
  sessions = [];
});

afterAll(async () => {
  await sandbox.stop();
}, 30_000);

let count = 0;

/** A profile that is linked to a phone, without a browser. */
async function linkedProfile(): Promise<{ name: string; phone: string }> {
  const name = `account-${++count}`;
  const watched = new Watched(name);
  await watched.session.start();
  const phone = await sandbox.phone();
  const qr = await until('the QR code', () => watched.qr);
  expect((await sandbox.call('POST', `/phones/${phone}/scan`, { qr })).status).toBe(200);
  await watched.untilTold('ready');
  expect(watched.told).toEqual(['syncing', 'ready']);
  await watched.session.stop();
  expect(await watched.browsers).toBe(0);
  return { name, phone };
}

describe('dialogs of WhatsApp Web', { timeout: 60_000 }, () => {
  it('hold whatsapp-web.js back until they are answered', async () => {
    const account = await sandbox.linked();
    const { phone } = account;
    await account.close();
    await sandbox.call('PUT', '/faults', { phone, dialog: 'whats_new' });
    const again = sandbox.account(account.profile.split('/').at(-1));
    void again.open();
    await until('the dialog', () => again.client.pupPage?.$('div[role="dialog"]').catch(() => null));
    await delay(2_000);
    expect(again.readyCount).toBe(0);
    const other = await sandbox.linked();
    expect(await other.client.pupPage?.$('div[role="dialog"]')).toBeNull();
    await again.client.pupPage?.click('div[role="dialog"] button');
    await again.ready();
    expect(await again.client.pupPage?.$('div[role="dialog"]')).toBeNull();
    await Promise.all([again.close(), other.close()]);
    expect((await sandbox.call('PUT', '/faults', { dialog: 'nonsense' })).status).toBe(400);
  });

  it('are pressed away when they agree to nothing, at the start and later', async () => {
    const { name, phone } = await linkedProfile();
    await sandbox.call('PUT', '/faults', { phone, dialog: 'whats_new' });
    const watched = new Watched(name);
    await watched.session.start();
    await watched.untilTold('ready');
    expect(watched.warnings).toEqual([
      expect.stringContaining(`pressed "Continue" in a dialog of WhatsApp Web: What's new`),
    ]);
    await sandbox.call('PUT', '/faults', { phone });
    await sandbox.call('PUT', '/faults', { phone, dialog: 'whats_new' });
    await delay(200);
    // It looks every 30 s.
    advanceClock(30_000);
    await until('it to be pressed again', () => watched.warnings.length === 2);
    expect(watched.actions).toEqual([]);
    expect(watched.session.ready).toBe(true);
  });

  it('are told when they stay, and when they are gone', async () => {
    const { name, phone } = await linkedProfile();
    await sandbox.call('PUT', '/faults', { phone, dialog: 'terms' });
    const watched = new Watched(name);
    await watched.session.start();
    await until('the call for a person', () => watched.actions.length > 0);
    expect(watched.actions).toEqual([expect.stringContaining('WhatsApp is updating its terms')]);
    expect(watched.warnings.filter((line) => line.startsWith('pressed "OK"'))).toHaveLength(3);
    expect(watched.told).toEqual(['syncing']);
    await sandbox.call('DELETE', '/faults');
    await watched.untilTold('ready');
    advanceClock(30_000);
    await until('the end of it', () => watched.actions.length === 2);
    expect(watched.actions[1]).toBeNull();
  });

  it('are left alone when they would unlink the account, change it, or take it from another browser', async () => {
    const { name } = await linkedProfile();
    const watched = new Watched(name);
    await watched.session.start();
    await watched.untilTold('ready');
    const page = watched.session['page'];
    const press = async (text: string, buttons: string[]) => {
      await page.evaluate(
        (content, labels) => {
          const element = (globalThis as any).document.createElement('div'); // eslint-disable-line @typescript-eslint/no-explicit-any
          element.setAttribute('role', 'dialog');
          element.innerHTML =
            `<p>${content}</p>` + labels.map((l) => `<div role="button">${l}</div>`).join('');
          element.onclick = (event: any) => (element.dataset.pressed = event.target.textContent); // eslint-disable-line @typescript-eslint/no-explicit-any
          (globalThis as any).document.body.replaceChildren(element); // eslint-disable-line @typescript-eslint/no-explicit-any
        },
        text,
        buttons,
      );
      const { lookForDialog } = await import('../../src/whatsapp/in-page/page-state.js');
      return (await page.evaluate(lookForDialog, true))?.pressed;
    };
    expect(await press('Log out of this device?', ['Cancel', 'Log out', 'OK'])).toBeNull();
    expect(await press('You changed your number', ['Continue', 'Not now'])).toBe('Not now');
    expect(await press('WhatsApp is open in another window', ['Close', 'Use here'])).toBeNull();
    expect(await press('Delete chat?', ['Delete', 'Continue'])).toBeNull();
    expect(await press('Lists are new', ['Learn more', 'Got it'])).toBe('Got it');
    expect(await press('Something', ['Update'])).toBeNull();
  });

  it("of the browser's own kind are dismissed at once", async () => {
    const { name } = await linkedProfile();
    const watched = new Watched(name);
    await watched.session.start();
    await watched.untilTold('ready');
    const page = watched.session['page'];
    expect(await page.evaluate(`confirm('Really?')`)).toBe(false);
    expect(watched.warnings).toEqual(['dismissed a dialog: Really?']);
  });
});

describe('the phases of a start', { timeout: 60_000 }, () => {
  it('end with launch_timeout when the browser does not come up', async () => {
    const stuck = join(sandbox.dir, 'stuck-headless-shell');
    await writeFile(stuck, '#!/bin/sh\nsleep 1000\n');
    await chmod(stuck, 0o755);
    const watched = new Watched('stuck', {
      chromiumPath: stuck,
      deadlines: { ...patient, launchMs: 1_000 },
    });
    const started = performance.now();
    await watched.session.start();
    expect(await watched.untilTold('launch_timeout')).toBe(
      'launch_timeout: the browser did not start within 1000 ms',
    );
    expect(performance.now() - started).toBeLessThan(3_000);
    expect(await watched.browsers).toBe(0);
  });

  it('end with load_timeout when WhatsApp is not reached', async () => {
    const { name, phone } = await linkedProfile();
    await sandbox.call('PUT', '/faults', { phone, offline: true });
    const watched = new Watched(name, { deadlines: { ...patient, loadMs: 3_000 } });
    await watched.session.start();
    expect(await watched.untilTold('load_timeout')).toMatch(/within 3000 ms: the page's state is OPENING/);
    expect(await watched.browsers).toBe(0);
    expect(watched.told).toHaveLength(1);
  });

  it('end with load_timeout when nothing answers', async () => {
    const watched = new Watched('unreached', {
      deadlines: { ...patient, loadMs: 2_000 },
      network: { kind: 'sandbox', host: '192.0.2.1', port: 443, spki: sandbox.server.spki },
    });
    await watched.session.start().catch((error: unknown) => watched.told.push(`crashed: ${String(error)}`));
    expect(await watched.untilTold('')).toMatch(/^(load_timeout: .* not WhatsApp Web|crashed: .*net::ERR)/);
    expect(await watched.browsers).toBe(0);
  });

  it('end with sync_timeout when it never gets ready, and say what the page shows', async () => {
    const { name, phone } = await linkedProfile();
    await sandbox.call('PUT', '/faults', { phone, dialog: 'terms' });
    const watched = new Watched(name);
    await watched.session.start();
    await until('the call for a person', () => watched.actions.length > 0);
    advanceClock(patient.syncMs);
    expect(await watched.untilTold('sync_timeout')).toMatch(
      /within 20000 ms: the page's state is CONNECTED, not synced, under the dialog "WhatsApp is updating/,
    );
    expect(await watched.browsers).toBe(0);
  });

  it('have no deadline while a person is to scan', async () => {
    await sandbox.call('PUT', '/faults', { qrLifetimeMs: 500 });
    const watched = new Watched('unscanned');
    const codes = new Set<string>();
    watched.session.on('qr', (qr) => codes.add(qr));
    await watched.session.start();
    await until('the QR code', () => codes.size === 1);
    // An hour later by its clock, the session has looked at the page several times.
    advanceClock(3_600_000);
    await until('three more QR codes', () => codes.size >= 4);
    expect(watched.told).toEqual([]);
  });

  it('start nothing without a lease', async () => {
    const watched = new Watched('unowned', { canStart: () => false });
    await expect(watched.session.start()).rejects.toThrow(NotOwned);
    expect(await watched.browsers).toBe(0);
  });
});

describe.each([
  ['http', httpProxy],
  ['socks5', socksProxy],
] as const)('a session behind a %s proxy', { timeout: 60_000 }, (scheme, startProxy) => {
  it('reaches WhatsApp with user and password, which are in no command line, also with a given page', async () => {
    const credentials = { user: 'proxy-user', password: 'proxy-password' };
    const proxy = await startProxy({ ...credentials, portOf: () => sandbox.server.port });
    // A live browser does not accept the certificate of the sandbox.
    const trusting = join(sandbox.dir, `trusting-${scheme}-headless-shell`);
    const spki = `--ignore-certificate-errors-spki-list=${sandbox.server.spki}`;
    await writeFile(trusting, `#!/bin/sh\nexec ${chromiumPath} "$@" ${spki}\n`);
    await chmod(trusting, 0o755);
    let current: Watched | null = null;
    const warnings: unknown[] = [];
    const forwarder = new ProxyForwarder({
      proxy: { scheme, host: '127.0.0.1', port: proxy.port, credentials },
      allowPrivate: ['127.0.0.0/8'],
      browserGroup: () => current?.session.browserGroup,
      tunnelMs: 10_000,
      onWarning: (_message, error) => warnings.push(error),
    });
    try {
      await forwarder.check();
      const proxyPort = await forwarder.listen();
      const open = async (options: Partial<SessionOptions>) => {
        const network = { kind: 'live' as const, proxyPort };
        current = new Watched(`proxied-${scheme}`, { chromiumPath: trusting, network, ...options });
        await current.session.start();
        return current;
      };
      const linking = await open({});
      const qr = await until('the QR code', () => linking.qr);
      const phone = await sandbox.phone();
      expect((await sandbox.call('POST', `/phones/${phone}/scan`, { qr })).status).toBe(200);
      await linking.untilTold('ready');
      const running = (await runningProcesses()).map(({ pid }) => argumentsOf(pid));
      const commands = (await Promise.all(running)).map((words) => words.join(' '));
      expect(commands.filter((command) => /proxy-user|proxy-password/.test(command))).toEqual([]);
      expect(commands.filter((command) => command.includes(linking.profile))[0]).toContain(
        `--proxy-server=http://127.0.0.1:${proxyPort}`,
      );
      const html = linking.session.takeServedPage()!;
      await linking.session.stop();

      const restored = await open({ webPage: { version: 'given', html } });
      await restored.untilTold('ready');
      expect(restored.session.hasGivenPage).toBe(true);
      await restored.session.reconnect();
      expect(await restored.session.sendToItself('through the proxy', 'PROXIED', 10_000)).toMatchObject({
        outcome: 'known',
        ack: 1,
      });
      expect(new Set(proxy.targets)).toEqual(new Set(['web.whatsapp.com:443']));
      expect([warnings, forwarder.isFailing]).toEqual([[], false]);
    } finally {
      forwarder.close();
      proxy.close();
    }
  });
});

describe('a session that waits for a person to scan', { timeout: 60_000 }, () => {
  it('shows fresh QR codes for as long as it may, after WhatsApp Web has shown its six', async () => {
    await sandbox.call('PUT', '/faults', { qrLifetimeMs: 100 });
    const watched = new Watched('patient');
    const codes = new Set<string>();
    watched.session.on('qr', (qr) => codes.add(qr));
    await watched.session.start();
    await until('more than six codes', () => codes.size > 6);
    await sandbox.call('PUT', '/faults', { qrLifetimeMs: 60_000 });
    // The page may be idle once more. It has no code to show then, and the session asks for new codes again.
    const phone = await sandbox.phone();
    await until(
      'a code that can be scanned',
      async () => (await sandbox.call('POST', `/phones/${phone}/scan`, { qr: watched.qr })).status === 200,
    );
    await watched.untilTold('ready');
    for (const code of codes) expect(code).toMatch(/^2@/);
    expect(watched.warnings).toEqual([]);
  });
});

describe('a logout', { timeout: 60_000 }, () => {
  it('is confirmed by WhatsApp’s answer only; without it the session stays linked', async () => {
    const { name, phone } = await linkedProfile();
    const linked = async () => (await sandbox.stats()).linked;
    const before = await linked();
    const unheard = new Watched(name);
    await unheard.session.start();
    await unheard.untilTold('ready');
    await sandbox.call('PUT', '/faults', { phone, offline: true });
    expect(await unheard.session.logout(1_000)).toBe(false);
    expect(unheard.warnings).toEqual(['WhatsApp did not answer the logout']);
    expect(await linked()).toBe(before);
    await sandbox.call('DELETE', '/faults');

    const heard = new Watched(name);
    await heard.session.start();
    await heard.untilTold('ready');
    expect(heard.qr).toBeNull();
    expect(await heard.session.logout()).toBe(true);
    expect(await linked()).toBe(before - 1);
    expect([...unheard.told, ...heard.told].filter((line) => line.startsWith('logged_out'))).toEqual([]);
  });
});

describe('a session that is stopped', { timeout: 60_000 }, () => {
  it('leaves no browser, at any moment of its start', async () => {
    for (const ms of [0, 5, 10, 20, 40, 60, 80, 120, 160, 200, 300, 400, 600]) {
      const watched = new Watched('early');
      const started = watched.session.start().catch((error: unknown) => watched.told.push(String(error)));
      await delay(ms);
      const stopping = performance.now();
      await watched.session.stop({ finishSendsMs: 0, closeMs: 0 });
      expect(performance.now() - stopping, `stopped after ${ms} ms`).toBeLessThan(1_500);
      await started;
      expect(await watched.browsers, `stopped after ${ms} ms`).toBe(0);
      await delay(100);
      expect(await watched.browsers, `a while after a stop after ${ms} ms`).toBe(0);
      expect(watched.told.filter((line) => !line.startsWith('syncing'))).toEqual([]);
    }
  });

  it('is gone within the limits of a fence, also when a slow stop runs already and the browser hangs', async () => {
    const { name } = await linkedProfile();
    const watched = new Watched(name);
    await watched.session.start();
    await watched.untilTold('ready');
    const bytes = await watched.session.memoryBytes();
    expect(bytes).toBeGreaterThan(30 * 2 ** 20);
    expect(bytes).toBeLessThan(600 * 2 ** 20);
    for (const { group } of await browsersOn(watched.profile)) process.kill(-group, 'SIGSTOP');
    const slow = watched.session.stop();
    const stopping = performance.now();
    await watched.session.stop({ finishSendsMs: 200, closeMs: 300 });
    expect(performance.now() - stopping).toBeLessThan(1_500);
    expect(await watched.browsers).toBe(0);
    await slow;
    expect(performance.now() - stopping).toBeLessThan(2_000);
    expect(await watched.session.memoryBytes()).toBe(0);
  });

  it('is ended by whoever owns its profile next', async () => {
    const { name } = await linkedProfile();
    const watched = new Watched(name);
    await watched.session.start();
    await watched.untilTold('ready');
    await claimProfile(watched.profile);
    expect(await watched.browsers).toBe(0);
    await watched.untilTold('crashed');
  });
});
