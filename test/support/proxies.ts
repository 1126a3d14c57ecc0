import { once } from 'node:events';
import { createServer as createHttpServer, type IncomingMessage } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { pipeline } from 'node:stream';

/** A proxy of a test. */
export interface TestProxy {
  port: number;
  /** How many connections it has accepted. */
  connections: () => number;
  /** The targets, `host:port`, that were asked for with the right user and password. */
  targets: string[];
  close: () => void;
}

export interface TestProxyOptions {
  user: string;
  password: string;
  /** The port of this machine where a target really is. */
  portOf?: (target: string) => number;
}

/** An HTTP proxy for CONNECT. @param tls its key and certificate: then it is an HTTPS proxy */
export function httpProxy(
  { user, password, portOf }: TestProxyOptions,
  tls?: { key: string; cert: string },
): Promise<TestProxy> {
  const targets: string[] = [];
  const login = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
  const server = tls ? createHttpsServer(tls) : createHttpServer();
  server.on('connect', (asked: IncomingMessage, client: Socket) => {
    client.on('error', () => undefined);
    if (asked.headers['proxy-authorization'] !== login) {
      client.end('HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n');
      return;
    }
    targets.push(asked.url!);
    join(client, portOf?.(asked.url!), () => client.write('HTTP/1.1 200 OK\r\n\r\n'));
  });
  return started(server, targets);
}

/** A SOCKS5 proxy with user and password (RFC 1928 and 1929) that looks up names itself. */
export function socksProxy({ user, password, portOf }: TestProxyOptions): Promise<TestProxy> {
  const targets: string[] = [];
  const server = createServer({ allowHalfOpen: true }, (client) => {
    client.on('error', () => undefined);
    const serve = async () => {
      const [, methodCount] = await read(client, 2);
      const methods = await read(client, methodCount!);
      if (!methods.includes(2)) return client.end(Buffer.from([5, 0xff]));
      client.write(Buffer.from([5, 2]));
      const [, userLength] = await read(client, 2);
      const userGiven = (await read(client, userLength!)).toString();
      const [passwordLength] = await read(client, 1);
      const passwordGiven = (await read(client, passwordLength!)).toString();
      const isRight = userGiven === user && passwordGiven === password;
      client.write(Buffer.from([1, isRight ? 0 : 1]));
      if (!isRight) return client.end();
      const [, , , addressType] = await read(client, 4);
      // 3 is a name. The forwarder never looks up the name of a target.
      if (addressType !== 3) return client.end(Buffer.from([5, 8, 0, 1, 0, 0, 0, 0, 0, 0]));
      const [nameLength] = await read(client, 1);
      const name = (await read(client, nameLength!)).toString();
      const target = `${name}:${(await read(client, 2)).readUInt16BE()}`;
      targets.push(target);
      return join(client, portOf?.(target), () => client.write(Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0])));
    };
    serve().catch(() => client.destroy());
  });
  return started(server, targets);
}

/** A server that gives every connection to `answer`. */
export function rawServer(answer: (socket: Socket) => void): Promise<TestProxy> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    answer(socket);
  });
  return started(server, []);
}

/** Joins a client with a port of this machine. Without a port, the client only gets the answer of the proxy. */
function join(client: Socket, port: number | undefined, answer: () => void): void {
  if (port === undefined) return answer();
  const target = connect(port, '127.0.0.1');
  target.on('error', () => client.destroy());
  target.once('connect', () => {
    answer();
    pipeline(client, target, client, () => undefined);
  });
}

async function read(socket: Socket, bytes: number): Promise<Buffer> {
  for (;;) {
    const chunk = socket.read(bytes) as Buffer | null;
    if (chunk) return chunk;
    if (socket.readableEnded || socket.destroyed) throw new Error('The client has gone.');
    await new Promise<void>((resolve) => {
      const go = () => {
        socket.off('readable', go).off('close', go);
        resolve();
      };
      socket.on('readable', go).on('close', go);
    });
  }
}

async function started(server: Server, targets: string[]): Promise<TestProxy> {
  const sockets = new Set<Socket>();
  let connections = 0;
  server.on('connection', (socket: Socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    connections: () => connections,
    targets,
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}
