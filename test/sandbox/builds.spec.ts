import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { projectRoot } from '../../src/platform/config/config.js';
import { builds, CurrentBuild } from '../../src/sandbox/builds/builds.js';
import type { PageSend } from '../../src/whatsapp/in-page/page-functions.js';
import { WhatsAppSession } from '../../src/whatsapp/whatsapp-session.js';
import { files } from './media-files.js';
import { type Account, chromiumPath, SandboxHarness, until } from './sandbox.harness.js';

let sandbox: SandboxHarness;

beforeAll(async () => {
  sandbox = await SandboxHarness.start();
}, 60_000);

afterAll(() => sandbox?.stop(), 30_000);

describe.each(builds)('the build $name', { timeout: 60_000 }, ({ name, version }) => {
  let session: WhatsAppSession;
  let phone: string;
  let friend: string;
  let count = 0;

  beforeAll(async () => {
    await sandbox.call('PUT', '/build', { version });
    session = new WhatsAppSession({
      accountId: name,
      profileDir: join(sandbox.dir, `session-${name}`),
      chromiumPath,
      network: { kind: 'sandbox', host: '127.0.0.1', port: sandbox.server.port, spki: sandbox.server.spki },
      pairWithPhoneNumber: null,
      deadlines: { launchMs: 20_000, loadMs: 20_000, syncMs: 20_000 },
      canStart: () => true,
      onWarning: () => undefined,
    });
    let qr: string | null = null;
    let isReady = false;
    session.on('qr', (code) => (qr = code));
    session.on('ready', () => (isReady = true));
    await session.start();
    [phone, friend] = [await sandbox.phone(), await sandbox.phone()];
    await sandbox.call('POST', `/phones/${phone}/scan`, { qr: await until('the QR code', () => qr) });
    await until('ready', () => isReady);
  }, 60_000);

  afterAll(() => session?.stop({ finishSendsMs: 0, closeMs: 0 }), 30_000);

  const idOf = (number: number) => `3EB0${name.length}${String(number).padStart(17, '0')}`;

  function send(options: Partial<PageSend>) {
    count += 1;
    return session.send({
      chatId: `${friend}@c.us`,
      content: { type: 'text', text: `text ${count}` },
      quoted: null,
      mentions: [],
      whatsappId: idOf(count),
      searchStorage: false,
      lookOnly: false,
      mayResend: true,
      timeoutMs: 5_000,
      typingMs: 0,
      checkNumber: false,
      ...options,
    });
  }

  it('sends a text, and finds it by its key', async () => {
    expect(await send({})).toMatchObject({ outcome: 'known' });
    const again = { whatsappId: idOf(count), lookOnly: true, searchStorage: true };
    expect(await send(again)).toMatchObject({ outcome: 'known', whatsappId: again.whatsappId });
    const asked = [{ chatId: `${friend}@c.us`, whatsappId: again.whatsappId }];
    await until('its acks', async () => (await session.messages.acksOf(asked))[0]?.ack === 3);
  });

  it('sends a picture', async () => {
    const path = join(sandbox.dir, `${name}.png`);
    await writeFile(path, files.png);
    const file = { path, mimetype: 'image/png', filename: 'a.png', size: files.png.length };
    expect(await send({ content: { type: 'image', caption: 'look', file } })).toMatchObject({
      outcome: 'known',
    });
    expect((await sandbox.inbox(friend)).at(-1)).toMatchObject({ type: 'image', text: 'look' });
  });

  it('answers a message that it holds, and sees its history and its chats', async () => {
    const quoted = { chatId: `${friend}@c.us`, whatsappId: idOf(1), fromMe: true, author: null };
    expect(await send({ quoted })).toMatchObject({ outcome: 'known' });
    expect((await sandbox.inbox(friend)).at(-1)).toMatchObject({ replyTo: idOf(1) });
    const chats = session.chats(10_000);
    const { items } = await chats.history(`${friend}@c.us`, 10, null);
    expect(items.map(({ whatsappId }) => whatsappId)).toContain(idOf(1));
    expect((await chats.chats(10, null)).map(({ id }) => id)).toContain(`${friend}@c.us`);
  });
});

it('a build that nobody knows is refused with the known ones', async () => {
  const refused = await sandbox.call('PUT', '/build', { version: '2.3000.1' });
  expect(refused.status).toBe(400);
  expect(JSON.stringify(refused.body)).toContain('2.3000.1047775310 (september)');
});

describe('GET /builds and PUT /build', { timeout: 60_000 }, () => {
  interface Listed {
    name: string;
    isCurrent: boolean;
    phones: string[];
  }
  const listed = async () => (await sandbox.call<{ items: Listed[] }>('GET', '/builds')).body.items;

  it('list the builds, the newest last, and say which is current and which phones have their own', async () => {
    const phone = await sandbox.phone();
    await sandbox.call('PUT', '/build', { version: 'july' });
    await sandbox.call('PUT', '/build', { version: builds[0]!.version, phone });
    expect(await listed()).toEqual(
      builds.map((build) => ({
        ...build,
        isCurrent: build.name === 'july',
        phones: build === builds[0] ? [phone] : [],
      })),
    );
    await sandbox.call('PUT', '/build', { version: 'september' });
    expect((await listed()).flatMap(({ isCurrent, phones }) => [isCurrent, ...phones])).toEqual([
      false,
      false,
      true,
    ]);
  });

  it('the lines of docs/whatsapp-web.md do what the page says', async () => {
    const page = await readFile(join(projectRoot, 'docs/whatsapp-web.md'), 'utf8');
    const lines = /^## In the sandbox$.*?^```sh$(.*?)^```$/ms.exec(page)![1]!;
    const NUMBER = await sandbox.phone();
    const env = { SANDBOX: sandbox.controlUrl, JSON: 'Content-Type: application/json', NUMBER };
    const { stdout } = await promisify(execFile)('bash', ['-ec', lines], { env: { ...process.env, ...env } });
    const [all, general, own] = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { items?: Listed[]; name?: string });
    expect(all!.items!.map(({ name }) => name)).toEqual(builds.map(({ name }) => name));
    expect([general!.name, own!.name]).toEqual(['june', 'july']);
    expect((await listed()).filter(({ isCurrent, phones }) => isCurrent || phones.length > 0)).toMatchObject([
      { name: 'june', isCurrent: true, phones: [] },
      { name: 'july', isCurrent: false, phones: [NUMBER] },
    ]);
  });

  it('refuses a phone that nobody has', async () => {
    expect((await sandbox.call('PUT', '/build', { version: 'june', phone: '6281234567890' })).status).toBe(
      404,
    );
  });

  it('a phone with its own build loads it at the next load of its page, also in a new browser; others do not', async () => {
    await sandbox.call('PUT', '/build', { version: 'june' });
    const [first, second] = await Promise.all([sandbox.linked(), sandbox.linked()]);
    await sandbox.call('PUT', '/build', { version: 'july', phone: first.phone });
    expect(await Promise.all([buildOf(first), buildOf(second)])).toEqual(['june', 'june']);
    await Promise.all([reload(first), reload(second)]);
    expect(await Promise.all([buildOf(first), buildOf(second)])).toEqual(['july', 'june']);

    await first.close();
    const again = sandbox.account(basename(first.profile));
    void again.open();
    await again.ready();
    expect(await buildOf(again)).toBe('july');
    await sandbox.call('PUT', '/build', { version: 'september' });
    await reload(again);
    expect(await buildOf(again)).toBe('september');
  });

  async function reload(account: Account): Promise<void> {
    const times = account.readyCount + 1;
    await account.client.pupPage!.reload();
    await account.ready(times);
  }

  async function buildOf({ client }: Account): Promise<string | undefined> {
    const version = await client.pupPage!.evaluate('window.Debug.VERSION');
    return builds.find((build) => build.version === version)?.name;
  }
});

it('SANDBOX_BUILD is the first build, and a wrong one stops the start', () => {
  const options = { host: '127.0.0.1', port: 0, dir: '', logger: console };
  expect(new CurrentBuild({ ...options, build: 'june' }).of().name).toBe('june');
  expect(new CurrentBuild(options).of()).toBe(builds.at(-1));
  expect(() => new CurrentBuild({ ...options, build: 'may' })).toThrow(/no build may.*june/);
});
