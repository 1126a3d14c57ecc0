import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type Server } from 'node:http';
import { type AddressInfo, connect, isIP, type Socket } from 'node:net';
import { type Duplex, pipeline } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { SocksClient } from 'socks';
import { pause } from '../../platform/pause.js';
import { hasSocket, loopbackSocket, processStatus, runningProcesses } from '../../platform/proc.js';
import { isPublicAddress } from '../../platform/http/public-address.js';
import { AddressNotPublic, publicLookup } from '../../platform/http/public-fetch.js';
import { place, type Proxy } from '../../platform/http/proxy-url.js';

/** Where a proxy must lead to before a browser starts. */
const whatsapp = { host: 'web.whatsapp.com', port: 443 };
/** Chromium opens at most 32 connections to a proxy for pages, and a few for WebSockets. */
const maxConnections = 64;
/** WhatsApp Web sends something every half minute. Chromium closes an unused connection after five minutes. */
const idleMs = 10 * 60_000;
/** For the first line and the headers of a request. The browser is on this machine. */
const headersMs = 10_000;

export interface ProxyForwarderOptions {
  proxy: Proxy;
  /** Ranges of private addresses that the proxy may have: `config.allowedPrivateAddresses`. */
  allowPrivate: readonly string[];
  /** The process group of the browser that may use the port. Undefined before it runs. */
  browserGroup: () => number | undefined;
  /** Gets why the proxy gives no connection, for the operator's log. It never has the user or the password. */
  onWarning: (message: string, error: unknown) => void;
  /**
   * How long a connection through the proxy may take: the lookup of its name, the connection, the handshake, and the proxy's own
   * connection to the target. A failure takes as long.
   */
  tunnelMs: number;
}

/** The account's proxy gives no connection. The message is the same for every cause. The operator's log has the cause. */
export class ProxyUnreachable extends Error {
  override name = 'ProxyUnreachable';

  constructor() {
    super('the proxy of this account gives no connection. Check proxyUrl.');
  }
}

/**
 * Stands between one browser and the proxy of its account. The browser speaks to a port of this machine, without a user and a
 * password. The forwarder checks the address of the proxy at the moment of connecting, so a name that changes its address (DNS
 * rebinding) does not lead into the operator's network. Only processes of the browser may use the port.
 *
 * Every failure takes the same time, so that a tenant cannot tell a closed port from a filtered port or a private address.
 */
export class ProxyForwarder {
  private readonly closed = new AbortController();
  private server: Server | null = null;
  private readonly sockets = new Set<Duplex>();
  private lastFailure: string | null = null;
  /** The process of the browser that opened the last connection: the next one probably comes from it too. */
  private lastPid = 0;

  constructor(private readonly options: ProxyForwarderOptions) {}

  /** Whether the last attempt to get a connection through the proxy failed. */
  get isFailing(): boolean {
    return this.lastFailure !== null;
  }

  /** Opens a connection to WhatsApp through the proxy, and closes it again. @throws ProxyUnreachable */
  async check(): Promise<void> {
    (await this.openTunnel(whatsapp, this.closed.signal)).destroy();
  }

  /** Starts to listen on 127.0.0.1. @returns the port. @throws Error after {@link close} */
  async listen(): Promise<number> {
    this.closed.signal.throwIfAborted();
    const server = createServer({ headersTimeout: headersMs, requestTimeout: headersMs, noDelay: true });
    this.server = server;
    server.maxConnections = maxConnections;
    server.on('connection', (socket) => this.track(socket));
    server.on('connect', (asked, socket: Socket, head) => void this.forward(asked, socket, head));
    // WhatsApp Web has no pages without TLS.
    server.on('request', (_asked, answer) => answer.writeHead(405, { connection: 'close' }).end());
    server.listen(0, '127.0.0.1');
    await once(server, 'listening', { signal: this.closed.signal });
    return (server.address() as AddressInfo).port;
  }

  /** Closes the port and all connections. */
  close(): void {
    this.closed.abort();
    this.server?.close();
    for (const socket of this.sockets) socket.destroy();
  }

  /** Connects a browser with the target that it asks for. */
  private async forward(asked: IncomingMessage, browser: Socket, head: Buffer): Promise<void> {
    const gone = new AbortController();
    browser.once('close', () => gone.abort());
    try {
      const target = parseTarget(asked.url ?? '');
      if (!target || !(await this.isFromBrowser(browser))) {
        browser.destroy();
        return;
      }
      const tunnel = await this.openTunnel(target, gone.signal);
      tunnel.setTimeout(idleMs, () => tunnel.destroy());
      browser.write('HTTP/1.1 200 Connection established\r\n\r\n');
      if (head.length > 0) tunnel.write(head);
      // A connection that breaks ends the other one too. Chromium opens a new one.
      pipeline(browser, tunnel, browser, () => undefined);
    } catch (error) {
      if (!(error instanceof ProxyUnreachable))
        this.options.onWarning('a connection was not forwarded', error);
      browser.end('HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n');
    }
  }

  /** Whether a process of the browser opened this connection. */
  private async isFromBrowser({ remoteAddress, remotePort, localPort }: Socket): Promise<boolean> {
    const group = this.options.browserGroup();
    if (group === undefined || remoteAddress !== '127.0.0.1' || !remotePort || !localPort) return false;
    const inode = await loopbackSocket(remotePort, localPort);
    if (inode === null) return false;
    if (processStatus(this.lastPid)?.group === group && hasSocket(this.lastPid, inode)) return true;
    const owner = (await runningProcesses()).find(
      (status) => status.group === group && hasSocket(status.pid, inode),
    );
    if (owner) this.lastPid = owner.pid;
    return owner !== undefined;
  }

  /**
   * A connection to a target through the proxy. A failure takes exactly the longest time that a success may take.
   * @throws ProxyUnreachable
   */
  private async openTunnel(target: Target, signal: AbortSignal): Promise<Socket> {
    const { tunnelMs, onWarning } = this.options;
    const deadline = performance.now() + tunnelMs;
    try {
      const tunnel = await this.connectThroughProxy(target, tunnelMs, signal);
      this.lastFailure = null;
      return tunnel;
    } catch (error) {
      if (!signal.aborted) {
        const failure = String(error);
        // A page tries again and again. The log needs each cause once.
        if (failure !== this.lastFailure) onWarning('the proxy of an account gives no connection', error);
        this.lastFailure = failure;
        await pause(deadline - performance.now(), { signal });
      }
      throw new ProxyUnreachable();
    }
  }

  private async connectThroughProxy(target: Target, limitMs: number, signal: AbortSignal): Promise<Socket> {
    const { proxy, allowPrivate } = this.options;
    const { scheme, host, port } = proxy;
    signal.throwIfAborted();
    // A literal address needs no lookup, so the lookup cannot check it.
    if (isIP(host) !== 0 && !isPublicAddress(host, allowPrivate)) throw new AddressNotPublic(host);
    const socket = this.track(connect({ host, port, lookup: publicLookup(allowPrivate), noDelay: true }));
    const abandon = () => socket.destroy(new Error('the proxy gave no connection in time'));
    const timer = setTimeout(abandon, limitMs);
    signal.addEventListener('abort', abandon);
    try {
      await once(socket, 'connect');
      if (scheme === 'socks5') await askSocks(socket, proxy, target, limitMs);
      else if (scheme === 'http') await askHttp(socket, proxy, target);
      else {
        const secure = this.track(
          connectTls({ socket, host, ...(isIP(host) === 0 ? { servername: host } : {}) }),
        );
        await once(secure, 'secureConnect');
        await askHttp(secure, proxy, target);
        return secure;
      }
      return socket;
    } catch (error) {
      socket.destroy();
      throw error;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', abandon);
    }
  }

  /** Remembers a socket until its end. An error of a socket ends only that connection. */
  private track<Tracked extends Socket>(socket: Tracked): Tracked {
    this.sockets.add(socket);
    socket.on('error', () => undefined).once('close', () => this.sockets.delete(socket));
    return socket;
  }
}

interface Target {
  host: string;
  port: number;
}

/** The target of a CONNECT request. */
function parseTarget(text: string): Target | null {
  const [, host, port] = /^(\[[\da-f:.]+\]|[\w.-]+):(\d{1,5})$/i.exec(text) ?? [];
  return host && port ? { host: host.replace(/^\[(.*)\]$/, '$1'), port: Number(port) } : null;
}

/** Asks an HTTP proxy for a connection (RFC 9110, CONNECT). */
async function askHttp(socket: Socket, { credentials }: Proxy, target: Target): Promise<void> {
  const path = place(target);
  const login = credentials && Buffer.from(`${credentials.user}:${credentials.password}`).toString('base64');
  const asking = request({
    method: 'CONNECT',
    path,
    headers: { host: path, ...(login === null ? {} : { 'proxy-authorization': `Basic ${login}` }) },
    createConnection: () => socket,
  });
  // After the answer, the socket's own listener gets the errors.
  asking.on('error', () => undefined).end();
  const [answer, , head] = (await once(asking, 'connect')) as [IncomingMessage, Socket, Buffer];
  if (answer.statusCode !== 200) throw new Error(`the proxy answers CONNECT with ${answer.statusCode}`);
  if (head.length > 0) socket.unshift(head);
}

/** Asks a SOCKS5 proxy for a connection. The proxy looks up the name of the target. */
async function askSocks(
  socket: Socket,
  { host, port, credentials }: Proxy,
  target: Target,
  timeout: number,
): Promise<void> {
  try {
    await SocksClient.createConnection({
      command: 'connect',
      existing_socket: socket,
      proxy: {
        host,
        port,
        type: 5,
        ...(credentials ? { userId: credentials.user, password: credentials.password } : {}),
      },
      destination: target,
      timeout,
    });
  } catch (error) {
    // The error of the library holds the password.
    throw new Error((error as Error).message);
  }
}
