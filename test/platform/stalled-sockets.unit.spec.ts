import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { closeWaitingAnswers } from '../../src/platform/http/http-server.js';
import { destroyStalledSockets } from '../../src/platform/http/stalled-sockets.js';
import { eventually } from '../support/eventually.js';

const stallMs = 400;
/** More than the kernel buffers for a connection. */
const size = 30_000_000;
let server: Server;
const clients: Socket[] = [];
afterEach(async () => {
  for (const client of clients) client.destroy();
  await new Promise((resolve) => server.close(resolve));
});

/** A client that reads nothing yet, and the answer that it waits for. */
async function ask(
  answer: (response: ServerResponse) => void,
): Promise<{ client: Socket; response: ServerResponse }> {
  server = createServer((_request, response) => answer(response));
  destroyStalledSockets(server, stallMs);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const asked = once(server, 'request') as Promise<[unknown, ServerResponse]>;
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
  clients.push(client);
  client.on('error', () => undefined).pause();
  client.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  return { client, response: (await asked)[1] };
}

/** How many bytes arrive until the connection closes. */
async function lengthOfRest(client: Socket): Promise<number> {
  let length = 0;
  client.on('data', (bytes: Buffer) => (length += bytes.length)).resume();
  await once(client, 'close');
  return length;
}

it('a client that reads nothing of a large answer is disconnected', async () => {
  const { client, response } = await ask((answer) => answer.end(Buffer.alloc(size)));
  await once(response, 'close');
  expect(await lengthOfRest(client)).toBeLessThan(size);
});

it('what goes on being written for a client that reads nothing is no progress', async () => {
  const { client, response } = await ask((answer) => {
    answer.write(Buffer.alloc(size));
    const timer = setInterval(() => answer.write('more'), stallMs / 20);
    answer.once('close', () => clearInterval(timer));
  });
  await once(response, 'close');
  expect(await lengthOfRest(client)).toBeLessThan(size);
});

it('a client that reads slowly gets all of one large write, and a stream without events stays open', async () => {
  const { client, response } = await ask((answer) => answer.write(Buffer.alloc(size)));
  const begin = performance.now();
  let read = 0;
  // For three times as long as a client may read nothing.
  await eventually('slowly read', () => {
    read += (client.read(500_000) as Buffer | null)?.length ?? 0;
    return performance.now() - begin > stallMs * 3;
  });
  expect(response.closed).toBe(false);
  client.on('data', (bytes: Buffer) => (read += bytes.length)).resume();
  await eventually('all is read', () => read >= size);
  const readAt = performance.now();
  await eventually('longer than a stall', () => performance.now() - readAt > stallMs * 2);
  expect(response.closed).toBe(false);
});

it('every pipelined answer closes with its connection, also one that waits behind another', async () => {
  server = createServer();
  closeWaitingAnswers(server);
  const answers: ServerResponse[] = [];
  let closed = 0;
  server.on('request', (_request, response: ServerResponse) => {
    answers.push(response.once('close', () => (closed += 1)));
    if (answers.length > 1) response.end('this waits for the first answer');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
  clients.push(client);
  client.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(3));
  await eventually('asked', () => answers.length === 3);
  expect(closed).toBe(0);
  client.destroy();
  await eventually('closed', () => closed === 3);
  expect(answers.every((answer) => answer.closed)).toBe(true);
});
