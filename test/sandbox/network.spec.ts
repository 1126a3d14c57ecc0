import { appendFile, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type INestApplicationContext, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { healthyFaults } from '../../demo/sandbox.js';
import { sandboxControllers } from '../../src/roles/sandbox.module.js';
import { digitsOf } from '../../src/sandbox/addresses.js';
import { SandboxNetworkController } from '../../src/sandbox/control/network.controller.js';
import { Journal } from '../../src/sandbox/journal/journal.js';
import { Ledger } from '../../src/sandbox/journal/ledger.js';
import { Outbox } from '../../src/sandbox/journal/outbox.js';
import { Delivery } from '../../src/sandbox/network/delivery.js';
import { NO_FAULTS } from '../../src/sandbox/network/fault-settings.js';
import { MediaStore } from '../../src/sandbox/network/media.js';
import { PhoneRegistry } from '../../src/sandbox/network/phones.js';
import { SandboxModule } from '../../src/sandbox/sandbox.module.js';
import { certificateSpki } from '../../src/sandbox/wire/certificate.js';

const silent = { debug() {}, info() {}, warn() {}, error() {} };
let dir: string;

@Module({})
class Root {}

/** A sandbox on the files in `dir`, without HTTP. */
function open(): Promise<INestApplicationContext> {
  const sandbox = SandboxModule.forRoot({ host: '127.0.0.1', port: 0, dir, logger: silent });
  const root = { module: Root, imports: [sandbox], controllers: sandboxControllers };
  return NestFactory.createApplicationContext(root, { logger: ['error'], abortOnError: false });
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-sandbox-'));
});

afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

async function linesOf(journal: string): Promise<string[]> {
  const lines: string[] = [];
  const opened = await Journal.open(journal, (line) => lines.push(line));
  await opened.close();
  return lines;
}

describe('a journal', () => {
  it('drops a line that a killed process left unfinished, and goes on behind the others', async () => {
    const path = join(dir, 'journal');
    await writeFile(path, '"one"\n"two"\n"thr');
    const journal = await Journal.open(path, () => undefined);
    const { offset } = journal.append('"drei"');
    expect(offset).toBe(12);
    await journal.close();
    expect(await linesOf(path)).toEqual(['"one"', '"two"', '"drei"']);
  });

  it('keeps lines that are appended while it is rewritten', async () => {
    const path = join(dir, 'journal');
    const journal = await Journal.open(path, () => undefined);
    for (let i = 0; i < 100; i += 1) journal.append(String(i));
    const rewritten = journal.rewrite(() => ['"snapshot"']);
    await journal.flush();
    journal.append('"later"');
    await rewritten;
    journal.append('"last"');
    await journal.close();
    const lines = await linesOf(path);
    expect(lines[0]).toBe('"snapshot"');
    expect(lines.at(-1)).toBe('"last"');
  });

  it('names the place where it is damaged', async () => {
    const path = join(dir, 'phones.ndjson');
    await writeFile(path, '{"broken\n');
    await expect(PhoneRegistry.open(dir)).rejects.toThrow(/phones\.ndjson is damaged at byte 0/);
  });
});

describe('the simulated network', () => {
  it('restores phones, links, inboxes and what waits for browsers, as a killed process left them', async () => {
    const before = await open();
    const phones = before.get(PhoneRegistry);
    const alice = await phones.create();
    const bob = await phones.create(undefined, 'Bob');
    const link = { phone: alice.phone, secret: 'c2VjcmV0', noisePublicKey: 'x', device: 'test' };
    const credential = await phones.link(link);
    await before.get(Delivery).sendFromPhone(bob.phone, alice.phone, { type: 'text', text: 'first' });
    await before.get(Delivery).sendFromPhone(bob.phone, alice.phone, { type: 'text', text: 'second' });
    await before.close();
    // Killed after the ledger was written and before the outbox was, with half a line of the next message.
    const outbox = await readFile(join(dir, 'outbox.ndjson'), 'utf8');
    await truncate(join(dir, 'outbox.ndjson'), outbox.indexOf('\n') + 1);
    await appendFile(join(dir, 'ledger.ndjson'), '{"seq":3,"at":"20');

    const after = await open();
    expect(after.get(SandboxNetworkController).stats()).toMatchObject({
      phones: 2,
      linked: 1,
      accepted: 2,
      offlineQueued: 2,
    });
    const waiting = [...after.get(Outbox).pending(credential.id)].map(({ event }) => event);
    expect(waiting).toMatchObject([
      { text: 'first', chat: bob.phone, fromMe: false, name: 'Bob' },
      { text: 'second', chat: bob.phone, fromMe: false, name: 'Bob' },
    ]);
    expect(await after.get(Ledger).inbox(alice.phone, 1, 10)).toMatchObject([{ seq: 2, text: 'second' }]);
    await after.close();
  });

  it('streams the ledger from any line on', async () => {
    const sandbox = await open();
    const [phones, ledger, delivery] = [
      sandbox.get(PhoneRegistry),
      sandbox.get(Ledger),
      sandbox.get(Delivery),
    ];
    const [a, b] = [await phones.create(), await phones.create()];
    await Promise.all(
      Array.from({ length: 700 }, (_, i) =>
        delivery.sendFromPhone(a.phone, b.phone, { type: 'text', text: `text ${i}` }),
      ),
    );
    for (const since of [0, 1, 255, 256, 257, 699, 700, 5000]) {
      const chunks: Buffer[] = [];
      for await (const chunk of ledger.lines(since)) chunks.push(chunk);
      const lines = Buffer.concat(chunks).toString().split('\n').filter(Boolean);
      expect(lines).toHaveLength(Math.max(0, 700 - since));
      if (lines[0]) expect(JSON.parse(lines[0])).toMatchObject({ seq: since + 1 });
    }
    await sandbox.close();
  });

  it('keeps no media of a ledger that was emptied', async () => {
    const sandbox = await open();
    const store = sandbox.get(MediaStore);
    const media = await store.encrypt(Buffer.from('a picture'), 'image/png');
    expect(await store.decrypt(media)).toEqual(Buffer.from('a picture'));
    await sandbox.get(SandboxNetworkController).clearLedger();
    await expect(store.decrypt(media)).rejects.toMatchObject({ status: 404 });
    expect(await readdir(join(dir, 'media'))).toEqual([]);
    await sandbox.close();
  });

  it('reads numbers in the usual notations', async () => {
    for (const input of ['+62 812-3456-7890', '6281234567890', '006281234567890', '6281234567890@c.us']) {
      expect(digitsOf(input)).toBe('6281234567890');
    }
    expect(() => digitsOf('12ab')).toThrow('is not a phone number');
  });

  it('has the faults that the demo compares with', () => {
    expect(healthyFaults).toEqual(NO_FAULTS);
  });

  it('keeps its certificate', async () => {
    const spki = await certificateSpki(dir);
    expect(spki).toMatch(/^[\w+/]{43}=$/);
    expect(await certificateSpki(dir)).toBe(spki);
  });
});
