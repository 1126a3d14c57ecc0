import express, { type Request, type RequestHandler, type Response } from 'express';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { beginInTurns } from '../../src/platform/http/begin-in-turns.js';
import { serveRequest } from '../../src/platform/context.js';
import { FairShare, withoutTurn } from '../../src/platform/http/fair-share.js';
import { eventually } from '../support/eventually.js';
import { fake } from '../support/fake.js';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

/** Serves with a middleware. @returns the URL */
async function serve(...handlers: RequestHandler[]): Promise<string> {
  const app = express();
  for (const handler of handlers) app.use(handler);
  const server = createServer(app).listen(0, '127.0.0.1');
  servers.push(server);
  await new Promise((resolve) => server.once('listening', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** A piece of work that ends when the test says so. */
class Work {
  begun: string[] = [];
  private readonly ends: (() => void)[] = [];

  do = (name: string) => {
    this.begun.push(name);
    return new Promise<void>((resolve) => this.ends.push(resolve));
  };

  endFirst(): void {
    this.ends.shift()!();
  }
}

/** A server whose requests work for the owner that their query names. */
async function shareServer(work: (name: string) => Promise<void>) {
  const share = new FairShare();
  const inContext: RequestHandler = (_request, _response, next) => serveRequest('r', next);
  const url = await serve(inContext, (request, response, next) => {
    const { owner = '', name = '' } = request.query as Record<string, string>;
    share
      .enter(owner, response)
      .then(() => work(name))
      .then(() => response.end(name))
      .catch(next);
  });
  const ask = (owner: string, name: string, signal?: AbortSignal) =>
    fetch(`${url}/?owner=${owner}&name=${name}`, signal ? { signal } : {}).then((answer) => answer.text());
  return { share, ask };
}

describe('a fair share', () => {
  it('lets an owner that is alone work on 8 requests at once, and in order on the others', async () => {
    const work = new Work();
    const { ask } = await shareServer(work.do);
    const answers = [];
    for (let number = 0; number < 10; number += 1) {
      answers.push(ask('a', `a${number}`));
      if (number < 8) await eventually('begun', async () => work.begun.length === number + 1);
    }
    for (let number = 8; number <= 10; number += 1) {
      expect(work.begun).toHaveLength(number);
      work.endFirst();
      const more = Math.min(10, number + 1);
      await eventually('the next', async () => work.begun.length === more);
    }
    for (let number = 0; number < 7; number += 1) work.endFirst();
    expect((await Promise.all(answers)).sort()).toEqual(
      Array.from({ length: 10 }, (_, number) => `a${number}`),
    );
  });

  it('of a heavy owner, two requests work beside those of another, which begin at once', async () => {
    const work = new Work();
    const { ask, share } = await shareServer(work.do);
    // The last one takes long while another one waits.
    for (let number = 0; number < 8; number += 1) void share.wait('a');
    const next = share.run('a', () => Promise.resolve());
    for (let number = 0; number < 8; number += 1) share.leave('a', 1_000);
    await next;
    const first = ask('b', 'b0');
    await eventually('begun', async () => work.begun.length === 1);
    const many = Array.from({ length: 20 }, (_, number) => ask('a', `a${number}`));
    await eventually('begun', async () => work.begun.length === 3);
    const second = ask('b', 'b1');
    await eventually('begun', async () => work.begun.includes('b1'));
    expect(work.begun.filter((name) => name.startsWith('a'))).toHaveLength(2);
    for (let number = 0; number < 22; number += 1) {
      await eventually('something to end', async () => work.begun.length > number);
      work.endFirst();
    }
    await Promise.all([first, second, ...many]);
  });

  it('leaves the event loop to others between requests that end at once', async () => {
    const share = new FairShare();
    let done = 0;
    const all = Promise.all(
      Array.from({ length: 100 }, () => share.run('a', () => Promise.resolve()).then(() => (done += 1))),
    );
    let [rounds, most] = [0, 0];
    while (done < 100) {
      const before = done;
      await new Promise((resolve) => setImmediate(resolve));
      most = Math.max(most, done - before);
      rounds += 1;
    }
    await all;
    expect(most).toBeLessThanOrEqual(16);
    expect(rounds).toBeGreaterThanOrEqual(6);
  });

  it('does not take an owner for a heavy one whose few requests take long', async () => {
    const work = new Work();
    const { ask, share } = await shareServer(work.do);
    await share.run('a', () => Promise.resolve());
    share.leave('a', 5_000);
    const others = [ask('b', 'b')];
    await eventually('begun', async () => work.begun.length === 1);
    const answers = Array.from({ length: 8 }, (_, number) => ask('a', `a${number}`));
    await eventually('all have begun', async () => work.begun.length === 9);
    for (let number = 0; number < 9; number += 1) work.endFirst();
    await Promise.all([...answers, ...others]);
  });

  it('gives the turn up for work that waits, when the answer begins, and when the client is gone', async () => {
    const outside = new Work();
    const { ask, share } = await shareServer((name) =>
      name.startsWith('slow') ? withoutTurn(() => outside.do(name)) : Promise.resolve(),
    );
    const gone = new AbortController();
    const slow = Array.from({ length: 30 }, (_, number) => ask('a', `slow${number}`, gone.signal));
    await eventually('all wait outside', async () => outside.begun.length === 30);
    expect(await ask('a', 'quick')).toBe('quick');
    gone.abort();
    expect((await Promise.allSettled(slow)).every(({ status }) => status === 'rejected')).toBe(true);
    for (let number = 0; number < 30; number += 1) outside.endFirst();
    // All places are free: eight runs begin at once.
    const runs = new Work();
    for (let number = 0; number < 9; number += 1) void share.run('a', () => runs.do(String(number)));
    await eventually('begun', async () => runs.begun.length === 8);
    runs.endFirst();
    await eventually('begun', async () => runs.begun.length === 9);
  });

  it('does work outside of a request as it is', async () => {
    expect(await withoutTurn(() => Promise.resolve('done'))).toBe('done');
  });
});

it('requests begin in turns of their callers, and not those whose clients are gone', async () => {
  const begin = beginInTurns((request) => String(request.query.caller));
  const begun: string[] = [];
  const arrive = (caller: string, closed = false) =>
    begin(fake<Request>({ query: { caller } }), fake<Response>({ closed }), () => {
      begun.push(caller);
      // As long as the checks of a request in an API that is busy.
      const until = performance.now() + 1;
      while (performance.now() < until);
    });
  for (let number = 0; number < 100; number += 1) arrive('many');
  arrive('gone', true);
  arrive('one');
  // A few begin at once.
  expect(begun.length).toBeLessThanOrEqual(2);
  await eventually('all have begun', async () => begun.length === 101);
  expect(begun).not.toContain('gone');
  expect(begun.indexOf('one')).toBeLessThan(6);
});
