import express, { json } from 'express';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { InstanceClient } from '../../src/instances/instance-client.js';
import { settings } from '../support/settings.js';
import { signedCalls } from '../../src/platform/http/internal.guard.js';
import { CallSigner, CallVerifier } from '../../src/platform/http/signed-calls.js';

/** A server like the sandbox's: some callers are exempt and need no signature. */
const secret = 'fli_a-secret-of-these-tests';
const app = express();
let url: string;
let server: ReturnType<typeof app.listen>;

beforeAll(async () => {
  const door = signedCalls(new CallVerifier(secret), 'here', ({ headers }) => headers['x-friend'] === 'yes');
  app.use(door.beforeBody, json({ verify: door.seeBody }), door.afterBody);
  app.use((request, response) => void response.json({ body: request.body as unknown }));
  app.use(
    (
      error: { status: number; code: string },
      _request: unknown,
      response: express.Response,
      _next: unknown,
    ) => void response.status(error.status).json({ code: error.code }),
  );
  server = app.listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => server?.close());

const post = async (body: string, headers: Record<string, string>) => {
  const type = { 'content-type': 'application/json' };
  const response = await fetch(`${url}/a?b=c`, { method: 'POST', headers: { ...type, ...headers }, body });
  return { status: response.status, ...((await response.json()) as object) };
};
const sign = (body: string) =>
  new CallSigner(secret).sign({ method: 'POST', audience: 'here', path: '/a?b=c' }, body);

describe('a closed server', () => {
  it('accepts signed calls and exempt callers', async () => {
    expect(await post('{"x":1}', { authorization: sign('{"x":1}') })).toEqual({
      status: 200,
      body: { x: 1 },
    });
    expect(await post('{"x":1}', { 'x-friend': 'yes' })).toEqual({ status: 200, body: { x: 1 } });
  });

  it('refuses a program that signs with another key or for another address', async () => {
    const client = new InstanceClient(settings({ INTERNAL_API_KEY: secret }));
    await expect(client.call(url, 'POST', '/a', {})).rejects.toMatchObject({
      status: 503,
      code: 'instance.refused',
      message: expect.not.stringContaining(url),
      cause: expect.objectContaining({ message: expect.stringContaining(`${url}: `) }),
    });
    await client.onApplicationShutdown();
  });

  it.each([
    ['nobody else', '{"x":1}', {}, 'internal.unsigned'],
    ['no other body', '{"x":2}', { authorization: sign('{"x":1}') }, 'internal.wrong_signature'],
    [
      'no body of a sort that is not looked at',
      '{"x":1}',
      { authorization: sign('{"x":1}'), 'content-type': 'text/plain' },
      'internal.wrong_signature',
    ],
    ['no friend of a friend', '{"x":1}', { 'x-friend': 'no' }, 'internal.unsigned'],
  ])('%s', async (_what, body, headers, code) => {
    expect(await post(body, headers as Record<string, string>)).toEqual({ status: 401, code });
  });
});
