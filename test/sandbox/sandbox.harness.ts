import { execFileSync } from 'node:child_process';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ValidationPipe } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { INestApplication } from '@nestjs/common';
import wwebjs, { type Client as ClientType, type Message } from 'whatsapp-web.js';
import { sandboxControllers } from '../../src/roles/sandbox.module.js';
import type { SandboxStats } from '../../src/sandbox/control/network.controller.js';
import type { LedgerEntry } from '../../src/sandbox/journal/ledger.js';
import { SandboxModule } from '../../src/sandbox/sandbox.module.js';
import { SandboxServer } from '../../src/sandbox/wire/server.js';

export const chromiumPath = process.env['CHROMIUM_PATH'] ?? '/usr/bin/chromium-headless-shell';
const WAIT_MS = 20_000;
const silent = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: (fields: object, message?: string) => {
    process.stderr.write(`${message ?? ''} ${JSON.stringify(fields)}\n`);
  },
};

/** Waits until `probe` gives a value that is neither undefined nor false. */
export async function until<T>(
  what: string,
  probe: () => T | Promise<T>,
  limitMs = WAIT_MS,
): Promise<Exclude<T, undefined | false | null>> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    const value = await probe();
    if (value !== undefined && value !== false && value !== null) {
      return value as Exclude<T, undefined | false | null>;
    }
    if (Date.now() > deadline) throw new Error(`Waited ${limitMs} ms in vain for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A sandbox with its control API, on free ports and with its own directory, and the browsers that use it. */
export class SandboxHarness {
  private app!: INestApplication;
  private port = 0;
  private readonly accounts: Account[] = [];
  controlUrl = '';

  private constructor(readonly dir: string) {}

  static async start(): Promise<SandboxHarness> {
    const harness = new SandboxHarness(await mkdtemp(join(tmpdir(), 'flotilla-sandbox-')));
    await harness.boot();
    return harness;
  }

  /** The running sandbox. */
  get server(): SandboxServer {
    return this.app.get(SandboxServer);
  }

  /** Starts it, or starts it again on the same port. */
  async boot(): Promise<void> {
    const options = { host: '127.0.0.1', port: this.port, dir: join(this.dir, 'sandbox'), logger: silent };
    const root = {
      module: class Root {},
      imports: [SandboxModule.forRoot(options)],
      controllers: sandboxControllers,
    };
    this.app = await NestFactory.create(root, { logger: ['error'] });
    this.app.useGlobalPipes(
      new ValidationPipe({ whitelist: true, forbidNonWhitelisted: true, transform: true }),
    );
    await this.app.listen(0, '127.0.0.1');
    this.controlUrl = await this.app.getUrl();
    this.port = this.server.port;
    // The clients of these tests are the bare library, which works on builds up to june only. builds.spec.ts covers the others.
    await this.call('PUT', '/build', { version: 'june' });
  }

  /** Stops the sandbox, not the browsers. */
  async shutDown(): Promise<void> {
    await this.app.close();
  }

  /** Calls the control API. */
  async call<T>(method: string, path: string, body?: object): Promise<{ status: number; body: T }> {
    const response = await fetch(this.controlUrl + path, {
      method,
      headers: { 'content-type': 'application/json' },
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    const text = await response.text();
    return { status: response.status, body: (text ? JSON.parse(text) : undefined) as T };
  }

  /** Creates a phone. */
  async phone(name?: string): Promise<string> {
    const { body } = await this.call<{ phone: string }>('POST', '/phones', name ? { name } : {});
    return body.phone;
  }

  /** What a phone received. */
  async inbox(phone: string): Promise<LedgerEntry[]> {
    return (await this.call<{ items: LedgerEntry[] }>('GET', `/phones/${phone}/inbox`)).body.items;
  }

  /** The ledger. */
  async ledger(since = 0): Promise<LedgerEntry[]> {
    const response = await fetch(`${this.controlUrl}/ledger?since=${since}`);
    const lines = (await response.text()).split('\n').filter(Boolean);
    return lines.map((line) => JSON.parse(line) as LedgerEntry);
  }

  /** The counters. */
  async stats(): Promise<SandboxStats> {
    return (await this.call<SandboxStats>('GET', '/stats')).body;
  }

  /** A browser with a profile of its own, or with an existing one. */
  account(profile = `profile-${this.accounts.length}`, options: object = {}): Account {
    const account = new Account(this, join(this.dir, profile), options);
    this.accounts.push(account);
    return account;
  }

  /** A browser that is linked to a new phone and ready. */
  async linked(options: object = {}): Promise<Account> {
    const account = this.account(undefined, options);
    void account.open();
    const phone = await this.phone();
    const qr = await until('QR code', () => account.qrs.at(-1));
    const scanned = await this.call('POST', `/phones/${phone}/scan`, { qr });
    if (scanned.status !== 200) throw new Error(JSON.stringify(scanned.body));
    await account.ready();
    return account;
  }

  /** Copies the profile of a closed browser. */
  async copyProfile(account: Account, name: string): Promise<string> {
    await cp(account.profile, join(this.dir, name), {
      recursive: true,
      filter: (path) => !path.includes('Singleton'),
    });
    return name;
  }

  get chromiumArgs(): string[] {
    return [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--disable-dev-shm-usage',
      `--host-resolver-rules=MAP web.whatsapp.com:443 127.0.0.1:${this.port}`,
      `--ignore-certificate-errors-spki-list=${this.server.spki}`,
    ];
  }

  /** Ends everything and removes its files. */
  async stop(): Promise<void> {
    await Promise.all(this.accounts.map((account) => account.close()));
    await this.app.close();
    await rm(this.dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
}

/** whatsapp-web.js in a browser, with everything that it told. */
export class Account {
  readonly client: ClientType;
  readonly qrs: string[] = [];
  readonly codes: string[] = [];
  readonly states: string[] = [];
  readonly acks: { id: string; ack: number }[] = [];
  readonly received: Message[] = [];
  readonly created: Message[] = [];
  readonly disconnected: string[] = [];
  readyCount = 0;

  constructor(
    harness: SandboxHarness,
    readonly profile: string,
    options: object,
  ) {
    this.client = new wwebjs.Client({
      webVersionCache: { type: 'none' },
      puppeteer: {
        executablePath: chromiumPath,
        pipe: true,
        headless: 'shell',
        userDataDir: profile,
        args: harness.chromiumArgs,
      },
      ...options,
    });
    this.client.on('qr', (qr) => this.qrs.push(qr));
    this.client.on('code', (code) => this.codes.push(code));
    this.client.on('ready', () => (this.readyCount += 1));
    this.client.on('change_state', (state) => this.states.push(state));
    this.client.on('message_ack', (message, ack) => this.acks.push({ id: message.id.id, ack }));
    this.client.on('message', (message) => this.received.push(message));
    this.client.on('message_create', (message) => this.created.push(message));
    this.client.on('disconnected', (reason) => this.disconnected.push(reason));
  }

  /** Starts the browser and connects. */
  async open(): Promise<void> {
    // Ends with an error when a test closes the browser in the middle of it.
    await this.client.initialize().catch(() => undefined);
  }

  /** Waits until whatsapp-web.js is ready. */
  async ready(times = 1): Promise<void> {
    await until('ready', () => this.readyCount >= times);
  }

  /** Its own number. */
  get phone(): string {
    return this.client.info.wid.user;
  }

  /** The acks of a message in the order in which they came. */
  acksOf(id: string): number[] {
    return this.acks.filter((entry) => entry.id === id).map(({ ack }) => ack);
  }

  /** Sends text and waits for ack 1. */
  async send(to: string, text: string): Promise<Message> {
    return this.client.sendMessage(`${to}@c.us`, text, { waitUntilMsgSent: true });
  }

  /** Kills the browser, with all of its processes, as kill -9 does. */
  async kill(): Promise<void> {
    const root = this.client.pupBrowser?.process()?.pid;
    if (!root) throw new Error('There is no browser to kill.');
    for (const pid of processTree(root)) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It went down with its parent.
      }
    }
    await until('the browser to die', () => !this.client.pupBrowser?.connected);
    await rm(join(this.profile, 'SingletonLock'), { force: true });
  }

  /** Closes the browser, if it is still there. */
  async close(): Promise<void> {
    if (this.client.pupBrowser?.connected) await this.client.pupBrowser.close();
  }
}

function processTree(root: number): number[] {
  const children = new Map<number, number[]>();
  for (const line of execFileSync('ps', ['-eo', 'pid=,ppid='], { encoding: 'utf8' }).split('\n')) {
    const [pid, parent] = line.trim().split(/\s+/).map(Number);
    if (pid !== undefined && parent !== undefined) {
      children.set(parent, [...(children.get(parent) ?? []), pid]);
    }
  }
  const tree = [root];
  for (const pid of tree) tree.push(...(children.get(pid) ?? []));
  return tree;
}
