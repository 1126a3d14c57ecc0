import { randomUUID } from 'node:crypto';
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { Problem } from '../errors/problem.js';
import { problemBody } from '../errors/problem.filter.js';

/** How long a caller may take. Milliseconds. */
export interface HttpTimeouts {
  /** Until its headers are there. */
  headersTimeoutMs: number;
  /** Until its body is there too. */
  requestTimeoutMs: number;
}

/** Longer than reverse proxies keep theirs, so that none sends a request into a connection that we are closing. */
const keepAliveMs = 75_000;
/** How long a connection stays open after its last answer, so that the caller can read the answer. */
const lingerMs = 1_000;

/** Bounds what one connection may take of the process, and answers as a problem what never becomes a request. */
export function hardenServer(server: Server, { headersTimeoutMs, requestTimeoutMs }: HttpTimeouts): void {
  server.headersTimeout = headersTimeoutMs;
  server.requestTimeout = requestTimeoutMs;
  server.keepAliveTimeout = keepAliveMs;
  // Node drops those above a number without a word, and with them what a proxy has added; their size is bounded anyway.
  server.maxHeadersCount = 0;
  // Read when it begins to listen; Node looks every thirty seconds otherwise.
  Object.assign(server, { connectionsCheckingInterval: Math.min(5_000, headersTimeoutMs) });
  server.on('connection', lingerBeforeClose);
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
      // One that does not close its side would keep the socket.
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

function problemOf(code: string | undefined, headersTimeoutMs: number, requestTimeoutMs: number): Problem {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return new Problem(
        431,
        'request.headers_too_large',
        'The URL and headers of a request have 16 kB together.',
      );
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return new Problem(413, 'request.too_large', 'The chunk extensions of this request are too long.');
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new Problem(
        408,
        'request.timeout',
        `The headers of a request must be there within ${headersTimeoutMs} ms, and all of it within ${requestTimeoutMs} ms.`,
      );
    default:
      return new Problem(400, 'request.malformed', 'This is no HTTP/1.1 request.');
  }
}
