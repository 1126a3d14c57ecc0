import { connect, createServer } from 'node:net';

/**
 * A way to a server that can be cut, as a pulled cable does it: connections stay open and silent. `restore` breaks the old
 * ones and lets new ones through.
 * @param {string} target URL of the server
 */
export async function tcpProxy(target) {
  const { hostname, port } = new URL(target);
  /** @type {Set<import('node:net').Socket>} */
  const sockets = new Set();
  let isCut = false;
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ]) {
      sockets.add(from);
      from.on('data', (data) => {
        if (!isCut) to.write(data);
      });
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  const url = new URL(target);
  url.hostname = '127.0.0.1';
  url.port = String(/** @type {import('node:net').AddressInfo} */ (server.address()).port);
  return {
    /** The target's URL, through this proxy. */
    url: url.href,
    cut() {
      isCut = true;
      for (const socket of sockets) socket.pause();
    },
    restore() {
      isCut = false;
      for (const socket of sockets) socket.destroy();
    },
    drop() {
      for (const socket of sockets) {
        socket.pause();
        socket.removeAllListeners('data');
      }
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
