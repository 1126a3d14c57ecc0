import type { Server } from 'node:http';
import type { Socket } from 'node:net';

/** The longest pause between two looks at the sockets of a server, in milliseconds. */
const maxLookMs = 5_000;

/**
 * Node's view of a connection below its streams, which is not documented. `bytesWritten` counts the bytes that Node has handed
 * over, `writeQueueSize` those of them that the kernel has not taken yet. test/platform/stalled-sockets.unit.spec.ts fails if
 * they change.
 */
interface Handle {
  bytesWritten: number;
  writeQueueSize: number;
}

/** When the kernel last took bytes of a socket, and how many it had taken until then. */
interface Progress {
  taken: number;
  at: number;
}

/**
 * Destroys each socket of a server whose client takes none of the waiting bytes for `stallMs`. Only bytes that the kernel takes
 * count: Node buffers what the client does not read, and a stream may go on writing into that buffer. A slow client that reads
 * goes on. One timer serves all sockets.
 */
export function destroyStalledSockets(server: Server, stallMs: number): void {
  const sockets = new Map<Socket, Progress | null>();
  server.on('connection', (socket: Socket) => {
    sockets.set(socket, null);
    socket.once('close', () => sockets.delete(socket));
  });
  const look = (): void => {
    const now = performance.now();
    for (const [socket, last] of sockets) {
      const taken = socket.writableLength > 0 ? takenOf(socket) : null;
      if (taken === null) sockets.set(socket, null);
      else if (taken !== last?.taken) sockets.set(socket, { taken, at: now });
      else if (now - last.at >= stallMs) socket.destroy();
    }
  };
  const timer = setInterval(look, Math.min(maxLookMs, Math.ceil(stallMs / 4))).unref();
  server.once('close', () => clearInterval(timer));
}

/** How many bytes of a socket the kernel has taken; null for a socket that is closed. */
function takenOf(socket: Socket): number | null {
  const { _handle: handle } = socket as unknown as { _handle: Handle | null };
  return handle && handle.bytesWritten - handle.writeQueueSize;
}
