import { randomUUID } from 'node:crypto';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Problem } from '../errors/problem.js';
import { problemBody } from '../errors/problem.filter.js';
import { destroyStalledSockets } from './stalled-sockets.js';

/** How long a caller may take, in milliseconds. */
export interface HttpTimeouts {
  /** Until its headers have arrived. */
  headersTimeoutMs: number;
  /** Until its whole request has arrived. */
  requestTimeoutMs: number;
  /** Without taking any byte of an answer that waits for it. */
  stallTimeoutMs: number;
}

/** Longer than reverse proxies keep idle connections, so that a proxy never sends a request on a connection that is closing. */
const keepAliveMs = 75_000;
/** How long a connection stays open after its last answer, so that the caller can read the answer. */
const lingerMs = 1_000;

/** Limits what one connection can use of the process, and answers malformed requests with a problem. */
export function hardenServer(
  server: Server,
  { headersTimeoutMs, requestTimeoutMs, stallTimeoutMs }: HttpTimeouts,
): void {
  server.headersTimeout = headersTimeoutMs;
  server.requestTimeout = requestTimeoutMs;
  server.keepAliveTimeout = keepAliveMs;
  // Above a maximum number, Node silently drops headers, including those of a proxy. The size of all headers is limited anyway.
  server.maxHeadersCount = 0;
  // Node reads this value when it starts to listen. Its default is 30 seconds.
  Object.assign(server, { connectionsCheckingInterval: Math.min(5_000, headersTimeoutMs) });
  server.on('connection', lingerBeforeClose);
  destroyStalledSockets(server, stallTimeoutMs);
  closeWaitingAnswers(server);
  server.on(
    'clientError',
    (error: NodeJS.ErrnoException, socket: Socket & { _httpMessage?: { headersSent: boolean } }) => {
      if (error.code === 'ECONNRESET' || !socket.writable || socket._httpMessage?.headersSent) {
        socket.destroy();
        return;
      }
      const body = problemBody(problemOf(error.code, headersTimeoutMs, requestTimeoutMs), randomUUID());
      const text = JSON.stringify(body);
      socket.end(
        [
          `HTTP/1.1 ${body.status} ${body.title}`,
          'Content-Type: application/problem+json; charset=utf-8',
          `Content-Length: ${Buffer.byteLength(text)}`,
          `X-Request-Id: ${body.requestId}`,
          'Connection: close',
          '',
          text,
        ].join('\r\n'),
      );
      // A caller that does not close its side would keep the socket open.
      const giveUp = setTimeout(() => socket.destroy(), lingerMs);
      socket.once('close', () => clearTimeout(giveUp));
    },
  );
}

/**
 * Closes a connection only when the caller has closed its side, or after {@link lingerMs}. Node closes it at once after the last
 * answer. If the caller is still sending its body then, the kernel resets the connection and the caller loses the answer (RFC 9112,
 * section 9.6).
 */
function lingerBeforeClose(socket: Socket): void {
  socket.destroySoon = () => {
    socket.end();
    socket.once('end', () => socket.destroy());
    const giveUp = setTimeout(() => socket.destroy(), lingerMs);
    socket.once('close', () => clearTimeout(giveUp));
  };
}

/**
 * Closes the answers of a connection that is closed. Node closes only the answer that it is sending. Pipelined answers that wait
 * behind it would never close, and would keep their memory and their slots.
 */
export function closeWaitingAnswers(server: Server): void {
  const open = new WeakMap<Socket, Set<ServerResponse>>();
  server.prependListener('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
    const answers = open.get(socket) ?? new Set();
    if (!open.has(socket)) {
      open.set(socket, answers);
      socket.once('close', () => {
        for (const answer of [...answers]) {
          // As Node does with the answer that it is sending.
          Object.assign(answer, { destroyed: true, _closed: true });
          answer.emit('close');
        }
      });
    }
    answers.add(response);
    response.once('close', () => answers.delete(response));
  });
}

function problemOf(code: string | undefined, headersTimeoutMs: number, requestTimeoutMs: number): Problem {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return new Problem(
        431,
        'request.headers_too_large',
        'The URL and the headers of this request are larger than 16 kB together. Shorten them.',
      );
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return new Problem(
        413,
        'request.too_large',
        'The chunk extensions of this request are too long. Send chunks without extensions.',
      );
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new Problem(
        408,
        'request.timeout',
        `The request took too long. Its headers must arrive within ${headersTimeoutMs} ms, and the whole request within ${requestTimeoutMs} ms.`,
      );
    default:
      return new Problem(400, 'request.malformed', 'This is not a valid HTTP/1.1 request.');
  }
}
