import { appendFile, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { certificateSpki } from '../../src/sandbox/wire/certificate.js';
import { Journal } from '../../src/sandbox/journal/journal.js';
import { SandboxNetwork } from '../../src/sandbox/network/network.js';
import { digitsOf } from '../../src/sandbox/network/phones.js';

const silent = { debug() {}, info() {}, warn() {}, error() {} };
let dir: string;

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
    await expect(SandboxNetwork.open(dir, silent)).rejects.toThrow(/phones\.ndjson is damaged at byte 0/);
  });
});

describe('the simulated network', () => {
  it('restores phones, links, inboxes and what waits for browsers, as a killed process left them', async () => {
    const before = await SandboxNetwork.open(dir, silent);
    const alice = await before.phones.create();
    const bob = await before.phones.create(undefined, 'Bob');
    const link = { phone: alice.phone, secret: 'c2VjcmV0', noisePublicKey: 'x', device: 'test' };
    const credential = await before.phones.link(link);
    await before.delivery.write(bob.phone, alice.phone, { type: 'text', text: 'first' });
    await before.delivery.write(bob.phone, alice.phone, { type: 'text', text: 'second' });
    await before.close();
    // Killed after the ledger was written and before the outbox was, with half a line of the next message.
    const outbox = await readFile(join(dir, 'outbox.ndjson'), 'utf8');
    await truncate(join(dir, 'outbox.ndjson'), outbox.indexOf('\n') + 1);
    await appendFile(join(dir, 'ledger.ndjson'), '{"seq":3,"at":"20');

    const after = await SandboxNetwork.open(dir, silent);
    expect(after.stats()).toMatchObject({ phones: 2, linked: 1, accepted: 2, offlineQueued: 2 });
    const waiting = [...after.outbox.pending(credential.id)].map(({ event }) => event);
    expect(waiting).toMatchObject([
      { text: 'first', chat: bob.phone, fromMe: false, name: 'Bob' },
      { text: 'second', chat: bob.phone, fromMe: false, name: 'Bob' },
    ]);
    expect(await after.ledger.inbox(alice.phone, 1, 10)).toMatchObject([{ seq: 2, text: 'second' }]);
    await after.close();
  });

  it('streams the ledger from any line on', async () => {
    const network = await SandboxNetwork.open(dir, silent);
    const [a, b] = [await network.phones.create(), await network.phones.create()];
    await Promise.all(
      Array.from({ length: 700 }, (_, i) =>
        network.delivery.write(a.phone, b.phone, { type: 'text', text: `text ${i}` }),
      ),
    );
    for (const since of [0, 1, 255, 256, 257, 699, 700, 5000]) {
      const chunks: Buffer[] = [];
      for await (const chunk of network.ledger.lines(since)) chunks.push(chunk);
      const lines = Buffer.concat(chunks).toString().split('\n').filter(Boolean);
      expect(lines).toHaveLength(Math.max(0, 700 - since));
      if (lines[0]) expect(JSON.parse(lines[0])).toMatchObject({ seq: since + 1 });
    }
    await network.close();
  });

  it('keeps no media of a ledger that was emptied', async () => {
    const network = await SandboxNetwork.open(dir, silent);
    const media = await network.media.seal(Buffer.from('a picture'), 'image/png');
    expect(await network.media.unseal(media)).toEqual(Buffer.from('a picture'));
    await network.clearLedger();
    await expect(network.media.unseal(media)).rejects.toMatchObject({ status: 404 });
    expect(await readdir(join(dir, 'media'))).toEqual([]);
    await network.close();
  });

  it('reads numbers in the usual notations', async () => {
    for (const input of ['+62 812-3456-7890', '6281234567890', '006281234567890', '6281234567890@c.us']) {
      expect(digitsOf(input)).toBe('6281234567890');
    }
    expect(() => digitsOf('12ab')).toThrow('is not a phone number');
  });

  it('keeps its certificate', async () => {
    const spki = await certificateSpki(dir);
    expect(spki).toMatch(/^[\w+/]{43}=$/);
    expect(await certificateSpki(dir)).toBe(spki);
  });
});
