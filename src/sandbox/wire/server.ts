import { readdir, readFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { type WebSocket, WebSocketServer } from 'ws';
import { projectRoot } from '../../platform/config/config.js';
import { FaultSettings } from '../network/fault-settings.js';
import { MEDIA_PATH, MediaStore } from '../network/media.js';
import { PhoneRegistry } from '../network/phones.js';
import { PictureStore } from '../network/pictures.js';
import { SandboxOptions } from '../options.js';
import { loadCertificate, spkiOf } from './certificate.js';
import type { LoadedBuild } from '../builds/build.js';
import { CurrentBuild } from '../builds/builds.js';
import { FrameHandler } from './frame-handler.js';
import type { ServerFrame } from './frames.js';
import { isSameProof, proofOf } from './proof.js';

interface Asset {
  type: string;
  body: Buffer;
}

/** The compiled page, also when this file runs as TypeScript: a browser runs only JavaScript. */
const PAGE = join(projectRoot, 'dist/src/sandbox/page');
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
/** A page uploads one file after the other. */
const MAX_UPLOADS_PER_BROWSER = 8;
const MAX_UPLOADS = 64;

/** Serves https://web.whatsapp.com/ to the browsers: the page, its WebSocket, media and pictures, on one TLS port. */
@Injectable()
export class SandboxServer {
  private server: Server | undefined;
  private sockets: WebSocketServer | undefined;
  private heartbeat: NodeJS.Timeout | undefined;
  private fingerprint = '';
  private readonly assets = new Map<string, Asset>();
  /** The running uploads by the credentials of their browsers. */
  private readonly uploads = new Map<string, number>();
  private runningUploads = 0;

  constructor(
    private readonly options: SandboxOptions,
    private readonly frames: FrameHandler,
    private readonly media: MediaStore,
    private readonly pictures: PictureStore,
    private readonly faults: FaultSettings,
    private readonly builds: CurrentBuild,
    private readonly phones: PhoneRegistry,
  ) {}

  /** The port that it listens on. */
  get port(): number {
    const address = this.server?.address() as AddressInfo | null | undefined;
    return address?.port ?? this.options.port;
  }

  /** The hash of the server's public key, for Chromium's `--ignore-certificate-errors-spki-list`. */
  get spki(): string {
    return this.fingerprint;
  }

  /** Loads the page and the certificate, and starts to listen. */
  async start(): Promise<void> {
    const { dir, host, port, logger } = this.options;
    await this.loadPage();
    const certificate = await loadCertificate(dir);
    this.fingerprint = spkiOf(certificate);

    const server = createServer(certificate, (request, response) => {
      this.serve(request, response).catch((error: unknown) => {
        logger.error({ err: error }, 'a request of a page failed');
        response.destroy();
      });
    });
    const sockets = new WebSocketServer({
      server,
      path: SOCKET_PATH,
      maxPayload: MAX_FRAME_BYTES,
      perMessageDeflate: false,
    });
    sockets.on('connection', (socket) => this.frames.attach(socket));
    this.server = server;
    this.sockets = sockets;
    await listen(server, host, port);
    sockets.on('error', (error) => logger.error({ err: error }, 'sandbox server error'));
    this.heartbeat = setInterval(() => beat(sockets), HEARTBEAT_MS);
    logger.info({ port: this.port }, 'sandbox listens');
  }

  /** Closes all connections. Pages connect again by themselves. */
  async stop(): Promise<void> {
    const { server, sockets } = this;
    clearInterval(this.heartbeat);
    if (server && sockets) {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets.clients) socket.close(1001);
      const cutOff = setTimeout(() => {
        for (const socket of sockets.clients) socket.terminate();
      }, STOP_LIMIT_MS);
      // These are page loads and connections that Chromium opened in advance; WebSockets are not among them.
      server.closeAllConnections();
      await closed;
      clearTimeout(cutOff);
      sockets.close();
    }
    this.server = undefined;
    this.sockets = undefined;
  }

  private async loadPage(): Promise<void> {
    for (const name of await readdir(PAGE)) {
      const type = TYPES[extname(name)];
      if (!type) continue;
      this.assets.set(`/${name}`, { type, body: await readFile(join(PAGE, name)) });
    }
    const index = this.assets.get('/index.html');
    if (!index || !this.assets.has('/main.js'))
      throw new Error(`The sandbox's page is not complete in ${PAGE}: run npm run build.`);
    this.assets.set('/', index);
  }

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'https://web.whatsapp.com');
    if (pathname === UPLOAD_PATH) return this.receiveMedia(request, response, searchParams.get('hash') ?? '');
    if (pathname.startsWith(MEDIA_PATH)) return this.sendMedia(response, pathname);
    const asset = pathname.startsWith(PICTURES_PATH)
      ? await this.pictures.read(pathname.slice(PICTURES_PATH.length))
      : this.assets.get(pathname);
    if (!asset) {
      response.writeHead(404).end();
      return;
    }
    const phone = /(?:^|; )phone=(\d+)/.exec(request.headers.cookie ?? '')?.[1];
    const body = pathname === '/' ? withBuild(asset.body, this.builds.of(phone)) : asset.body;
    // Keeps the page out of the caches in the accounts' profiles.
    response.writeHead(200, { 'content-type': asset.type, 'cache-control': 'no-store' });
    response.end(body);
  }

  /** Stores the media of a message, which its page has encrypted. Only a browser that is linked to a phone may upload. */
  private async receiveMedia(
    request: IncomingMessage,
    response: ServerResponse,
    hash: string,
  ): Promise<void> {
    const credential = this.uploaderOf(request, hash);
    const running = this.uploads.get(credential ?? '') ?? 0;
    const isBusy = running >= MAX_UPLOADS_PER_BROWSER || this.runningUploads >= MAX_UPLOADS;
    if (credential === undefined || isBusy) {
      // The server does not read the bytes.
      response.writeHead(isBusy ? 429 : 401, { connection: 'close' }).end();
      return;
    }
    this.uploads.set(credential, running + 1);
    this.runningUploads += 1;
    try {
      await this.storeMedia(request, response, hash);
    } finally {
      this.runningUploads -= 1;
      const left = this.uploads.get(credential)! - 1;
      if (left > 0) this.uploads.set(credential, left);
      else this.uploads.delete(credential);
    }
  }

  /** The credential of the browser that proves that it uploads bytes with this hash. */
  private uploaderOf({ headers, method }: IncomingMessage, hash: string): string | undefined {
    const [id = '', proof = ''] = (headers.authorization ?? '').split(':');
    const credential = this.phones.credential(id);
    const isProved = credential && isSameProof(proofOf(credential.secret, `upload:${hash}`), proof);
    return isProved && method === 'POST' ? credential.id : undefined;
  }

  private async storeMedia(request: IncomingMessage, response: ServerResponse, hash: string): Promise<void> {
    const { uploadFailRate, uploadDelayMs } = this.faults.of(undefined);
    const directPath = await this.media.saveUpload(request, hash);
    if (uploadDelayMs > 0) await delay(uploadDelayMs, undefined, { ref: false });
    const isLost = uploadFailRate > 0 && Math.random() < uploadFailRate;
    if (isLost) response.writeHead(503).end();
    else if (directPath === null) response.writeHead(400).end();
    else response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ directPath }));
  }

  /** Sends encrypted media to a page. */
  private async sendMedia(response: ServerResponse, path: string): Promise<void> {
    const { downloadFailRate } = this.faults.of(undefined);
    if (downloadFailRate > 0 && Math.random() < downloadFailRate) {
      response.writeHead(503).end();
      return;
    }
    const found = await this.media.read(path);
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
              `The sandbox cannot listen on ${host}:${port}, because another program does: stop that program or choose another port.`,
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

/** Cuts the sockets that have not answered the last ping, and pings the others. */
function beat(sockets: WebSocketServer): void {
  for (const socket of sockets.clients) {
    if (unanswered.has(socket)) {
      socket.terminate();
      continue;
    }
    unanswered.add(socket);
    socket.once('pong', () => unanswered.delete(socket));
    socket.ping();
    socket.send(JSON.stringify({ t: 'beat' } satisfies ServerFrame));
  }
}

/** The page as a build: the page reads the build from its own HTML. */
function withBuild(html: Buffer, build: LoadedBuild): string {
  const script = `<script id="build" type="application/json">${JSON.stringify(build)}</script>`;
  return html.toString().replace('<!--build-->', () => script);
}
