/**
 * A network connection that tests can cut.
 */
import { connect, createServer } from 'node:net';

/**
 * A proxy in front of a server. A program that connects through it sees a broken network when the proxy is cut.
 *
 * @typedef {object} TcpProxy
 * @property {string} url the target's URL through this proxy
 * @property {() => void} cut stops all traffic. Connections stay open and silent, as when a cable is pulled.
 * @property {() => void} restore breaks the open connections and lets new ones through
 * @property {() => void} drop silences the open connections for ever, as when a firewall forgets them. New ones work.
 * @property {() => Promise<void>} close
 */

/**
 * @param {string} target URL of the server behind the proxy
 * @returns {Promise<TcpProxy>}
 */
export async function tcpProxy(target) {
  const { hostname, port } = new URL(target);
  /** @type {Set<import('node:net').Socket>} */
  const sockets = new Set();
  let isCut = false;
  const forward = (
    /** @type {import('node:net').Socket} */ from,
    /** @type {import('node:net').Socket} */ to,
  ) => {
    sockets.add(from);
    from.on('data', (data) => {
      if (!isCut) to.write(data);
    });
    from.on('error', () => to.destroy());
    from.on('close', () => {
      sockets.delete(from);
      to.destroy();
    });
  };
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    forward(client, upstream);
    forward(upstream, client);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  const url = new URL(target);
  url.hostname = '127.0.0.1';
  url.port = String(/** @type {import('node:net').AddressInfo} */ (server.address()).port);
  return {
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
