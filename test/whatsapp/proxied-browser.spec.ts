import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import puppeteer, { type Page } from 'puppeteer';
import { afterEach, expect, it } from 'vitest';
import { loadConfig } from '../../src/platform/config/config.js';
import { launchOptions } from '../../src/whatsapp/browser/launch.js';
import { ProxyForwarder } from '../../src/whatsapp/browser/proxy-forwarder.js';
import { httpProxy, rawServer } from '../support/proxies.js';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** Starts a browser, and lets its page try every way to the network. */
async function tryEverything(
  proxyPort: number | null,
  stunPort: number,
  urls: string[],
  started: (group: number) => void,
) {
  const dir = await mkdtemp(join(tmpdir(), 'proxied-'));
  closers.push(() => rm(dir, { recursive: true, force: true, maxRetries: 5 }));
  const netLog = join(dir, 'net-log.json');
  const { chromiumPath } = loadConfig().sessions;
  const options = launchOptions(chromiumPath!, join(dir, 'profile'), { kind: 'live', proxyPort });
  options.args!.push(`--log-net-log=${netLog}`);
  const browser = await puppeteer.launch(options);
  const loads: string[] = [];
  try {
    started(browser.process()!.pid!);
    const [page] = (await browser.pages()) as [Page];
    await page.setContent(
      `<link rel="dns-prefetch" href="//prefetched.test"><link rel="preconnect" href="https://preconnected.test">`,
    );
    await page.evaluate(gatherCandidates, `stun:127.0.0.1:${stunPort}`);
    for (const url of urls)
      loads.push(
        await page.goto(url, { timeout: 10_000 }).then(
          (response) => `${response!.status()}`,
          (error: Error) => /net::\w+/.exec(error.message)?.[0] ?? error.message,
        ),
      );
  } finally {
    await browser.close();
  }
  return { loads, lookups: await lookupsOf(netLog) };
}

/** Runs in the page: WebRTC looks for ways to a peer, until it knows all of them or three seconds are over. */
async function gatherCandidates(stun: string): Promise<void> {
  const { RTCPeerConnection } = globalThis as any; // eslint-disable-line @typescript-eslint/no-explicit-any
  const peer = new RTCPeerConnection({ iceServers: [{ urls: stun }] });
  peer.createDataChannel('x');
  const gathered = new Promise<void>((resolve) => {
    peer.onicegatheringstatechange = () => peer.iceGatheringState === 'complete' && resolve();
  });
  await peer.setLocalDescription(await peer.createOffer());
  await Promise.race([gathered, new Promise((resolve) => setTimeout(resolve, 3_000))]);
}

/** The names for which Chromium started a lookup of its own. */
async function lookupsOf(netLog: string): Promise<string[]> {
  const { constants, events } = JSON.parse(await readFile(netLog, 'utf8')) as {
    constants: { logEventTypes: Record<string, number> };
    events: { type: number; params?: { host?: string } }[];
  };
  const job = constants.logEventTypes['HOST_RESOLVER_MANAGER_JOB'];
  expect(job).toBeDefined();
  expect(events.length).toBeGreaterThan(10);
  return events.flatMap(({ type, params }) => (type === job && params?.host ? [params.host] : []));
}

it('a browser with a proxy uses nothing else', { timeout: 90_000 }, async () => {
  const inner = await rawServer((socket) => socket.end());
  closers.push(() => inner.close());
  const stun = createSocket('udp4').bind(0, '127.0.0.1');
  await once(stun, 'listening');
  closers.push(() => stun.close());
  let datagrams = 0;
  stun.on('message', () => (datagrams += 1));
  // What the proxy leads to speaks no TLS.
  const behind = await rawServer((socket) => socket.end());
  closers.push(() => behind.close());
  const proxy = await httpProxy({ user: 'user', password: 'password', portOf: () => behind.port });
  closers.push(() => proxy.close());
  let group: number | undefined;
  const forwarder = new ProxyForwarder({
    proxy: {
      scheme: 'http',
      host: '127.0.0.1',
      port: proxy.port,
      credentials: { user: 'user', password: 'password' },
    },
    allowPrivate: ['127.0.0.0/8'],
    browserGroup: () => group,
    tunnelMs: 5_000,
    onWarning: () => undefined,
  });
  closers.push(() => forwarder.close());
  const urls = [
    `http://127.0.0.1:${inner.port}/`,
    `http://localhost:${inner.port}/`,
    `https://127.0.0.1:${inner.port}/`,
    'https://looked-up.test/',
  ];
  // Chromium by itself never uses a proxy for link-local addresses.
  const linkLocal = 'http://169.254.169.254/latest/meta-data/';

  const port = await forwarder.listen();
  const { port: stunPort } = stun.address();
  const proxied = await tryEverything(port, stunPort, [...urls, linkLocal], (pid) => (group = pid));
  expect(proxied).toEqual({
    loads: ['405', '405', 'net::ERR_CONNECTION_CLOSED', 'net::ERR_CONNECTION_CLOSED', '405'],
    lookups: [],
  });
  expect(new Set(proxy.targets)).toEqual(new Set([`127.0.0.1:${inner.port}`, 'looked-up.test:443']));
  expect([inner.connections(), datagrams]).toEqual([0, 0]);

  // Without a proxy, the same page reaches all of these. So the test notices when a switch of Chromium no longer works.
  const direct = await tryEverything(null, stunPort, urls, () => undefined);
  expect(direct.lookups).toEqual(['https://looked-up.test']);
  expect(inner.connections()).toBeGreaterThan(0);
  expect(datagrams).toBeGreaterThan(0);
});
