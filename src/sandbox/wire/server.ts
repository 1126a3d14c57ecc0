import { readdir, readFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { extname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { type WebSocket, WebSocketServer } from 'ws';
import { loadCertificate, spkiOf } from './certificate.js';
import { SandboxConnection } from './browser-connection.js';
import { MEDIA_PATH } from '../network/media.js';
import type { SandboxLogger } from '../options.js';
import { SandboxNetwork } from '../network/network.js';

/** Where the sandbox listens and keeps its files. */
export interface SandboxOptions {
  host: string;
  /** 0 takes a free one. */
  port: number;
  dir: string;
  logger: SandboxLogger;
}

interface Asset {
  type: string;
  body: Buffer;
}

const PAGE = new URL('../page/', import.meta.url);
const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
};
const SOCKET_PATH = '/ws/chat';
const UPLOAD_PATH = '/v/media';
const PICTURES_PATH = '/pictures/';
const MAX_FRAME_BYTES = 1024 * 1024;
const HEARTBEAT_MS = 15_000;
const STOP_LIMIT_MS = 3000;

/** The WhatsApp side of the sandbox: https://web.whatsapp.com/ and its WebSocket, on one TLS port. */
export class SandboxServer {
  private server: Server | undefined;
  private sockets: WebSocketServer | undefined;
  private heartbeat: NodeJS.Timeout | undefined;
  private opened: SandboxNetwork | undefined;
  private fingerprint = '';
  private readonly assets = new Map<string, Asset>();

  constructor(private readonly options: SandboxOptions) {}

  /** The phones, the ledger and everything else behind the pages. */
  get network(): SandboxNetwork {
    if (!this.opened) throw new Error('The sandbox has not been started.');
    return this.opened;
  }

  /** The port that it listens on. */
  get port(): number {
    const address = this.server?.address() as AddressInfo | null | undefined;
    return address?.port ?? this.options.port;
  }

  /** The hash of its public key, for Chromium's `--ignore-certificate-errors-spki-list`. */
  get spki(): string {
    return this.fingerprint;
  }

  /** Restores the state from disk and starts to listen. */
  async start(): Promise<void> {
    const { dir, host, port, logger } = this.options;
    await this.loadPage();
    const certificate = await loadCertificate(dir);
    this.fingerprint = spkiOf(certificate);
    this.opened = await SandboxNetwork.open(dir, logger);

    const server = createServer(certificate, (request, response) => {
      this.serve(request, response).catch((error: unknown) => {
        logger.error({ err: error }, 'a file of the page could not be served');
        response.destroy();
      });
    });
    const sockets = new WebSocketServer({
      server,
      path: SOCKET_PATH,
      maxPayload: MAX_FRAME_BYTES,
      perMessageDeflate: false,
    });
    sockets.on('connection', (socket) => new SandboxConnection(socket, this.network));
    this.server = server;
    this.sockets = sockets;
    await listen(server, host, port).catch(async (error: unknown) => {
      await this.opened?.close();
      throw error;
    });
    sockets.on('error', (error) => logger.error({ err: error }, 'sandbox server error'));
    this.heartbeat = setInterval(() => beat(sockets), HEARTBEAT_MS);
    logger.info({ port: this.port, ...this.network.stats() }, 'sandbox listens');
  }

  /** Closes all connections, which pages open again by themselves, and writes what is left. */
  async stop(): Promise<void> {
    const { server, sockets } = this;
    clearInterval(this.heartbeat);
    if (server && sockets) {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets.clients) socket.close(1001);
      const cutOff = setTimeout(() => {
        for (const socket of sockets.clients) socket.terminate();
      }, STOP_LIMIT_MS);
      // These are only page loads and connections that Chromium opened in advance: WebSockets do not count.
      server.closeAllConnections();
      await closed;
      clearTimeout(cutOff);
      sockets.close();
    }
    await this.opened?.close();
    this.server = undefined;
    this.sockets = undefined;
    this.opened = undefined;
  }

  private async loadPage(): Promise<void> {
    for (const name of await readdir(PAGE)) {
      const type = TYPES[extname(name)];
      if (!type) continue;
      this.assets.set(`/${name}`, { type, body: await readFile(new URL(name, PAGE)) });
    }
    const index = this.assets.get('/index.html');
    if (!index) throw new Error(`The sandbox's page is missing: ${PAGE.pathname}index.html`);
    this.assets.set('/', index);
  }

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'https://web.whatsapp.com');
    if (pathname === UPLOAD_PATH) return this.takeMedia(request, response, searchParams.get('hash') ?? '');
    if (pathname.startsWith(MEDIA_PATH)) return this.giveMedia(response, pathname);
    const asset = pathname.startsWith(PICTURES_PATH)
      ? await this.network.pictures.read(pathname.slice(PICTURES_PATH.length))
      : this.assets.get(pathname);
    if (!asset) {
      response.writeHead(404).end();
      return;
    }
    // Nothing of the page is worth keeping in the accounts' profiles.
    response.writeHead(200, { 'content-type': asset.type, 'cache-control': 'no-store' });
    response.end(asset.body);
  }

  /** Takes in the media of a message, encrypted by its page. */
  private async takeMedia(request: IncomingMessage, response: ServerResponse, hash: string): Promise<void> {
    const { faults, media } = this.network;
    const { uploadFailRate, uploadDelayMs } = faults.of(undefined);
    const directPath = await media.receive(request, hash);
    if (uploadDelayMs > 0) await delay(uploadDelayMs, undefined, { ref: false });
    const isLost = uploadFailRate > 0 && Math.random() < uploadFailRate;
    if (isLost) response.writeHead(503).end();
    else if (directPath === null) response.writeHead(400).end();
    else response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ directPath }));
  }

  private async giveMedia(response: ServerResponse, path: string): Promise<void> {
    const { faults, media } = this.network;
    const { downloadFailRate } = faults.of(undefined);
    if (downloadFailRate > 0 && Math.random() < downloadFailRate) {
      response.writeHead(503).end();
      return;
    }
    const found = await media.read(path);
    if (!found) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { 'content-length': found.size, 'cache-control': 'no-store' });
    await pipeline(found.stream, response);
  }
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const inUse = error.code === 'EADDRINUSE';
      reject(
        inUse
          ? new Error(
              `The sandbox cannot listen on ${host}:${port}, another program does: stop that one or choose another port.`,
            )
          : error,
      );
    });
    server.listen(port, host, () => {
      server.removeAllListeners('error');
      resolve();
    });
  });
}

const unanswered = new WeakSet<WebSocket>();

/** Cuts the sockets that did not answer since the last time, and asks the others. */
function beat(sockets: WebSocketServer): void {
  for (const socket of sockets.clients) {
    if (unanswered.has(socket)) {
      socket.terminate();
      continue;
    }
    unanswered.add(socket);
    socket.once('pong', () => unanswered.delete(socket));
    socket.ping();
    socket.send('{"t":"beat"}');
  }
}
