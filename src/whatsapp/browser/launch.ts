import type { LaunchOptions } from 'puppeteer';

/**
 * Where an account's browser finds WhatsApp: the real WhatsApp (`live`) or the sandbox. `proxyPort` is the port of this machine that
 * leads to the account's proxy (ProxyForwarder). Null: the browser connects directly.
 */
export type Network =
  { kind: 'live'; proxyPort: number | null } | { kind: 'sandbox'; host: string; port: number; spki: string };

/** Fewer processes, and no traffic of the browser itself. A session needs only one page. */
const leanArgs = [
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--disable-quic',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-extensions',
  '--disable-breakpad',
  '--disable-software-rasterizer',
  '--no-first-run',
  '--no-default-browser-check',
  '--no-pings',
  '--mute-audio',
  '--metrics-recording-only',
  // Flotilla recognises the dialogs of WhatsApp Web by the English labels of their buttons.
  '--accept-lang=en-US',
  // Without limits the caches grow with the free space of the disk. WhatsApp Web fits in 50 MB.
  '--disk-cache-size=52428800',
  '--media-cache-size=52428800',
  '--renderer-process-limit=1',
  // Chromium keeps two zygotes: processes that wait to be forked. The renderer needs the first. The second is for helpers without
  // a sandbox, takes 8 MiB, and a session rarely has such a helper. Without a zygote Chromium starts it as a new process.
  '--no-unsandboxed-zygote',
  // One renderer. The GPU and network code run as threads of the browser process, not as separate processes.
  '--in-process-gpu',
  '--enable-features=NetworkServiceInProcess2',
  '--disable-features=Translate,BackForwardCache,AcceptCHFrame,MediaRouter,OptimizationHints,IsolateOrigins,site-per-process',
  '--disable-site-isolation-trials',
];

/** Whether a browser uses Chromium's own sandbox. `auto`: unless this process runs as root, for whom Chromium has none. */
export type BrowserSandbox = 'auto' | 'on' | 'off';

const isRoot = () => process.getuid?.() === 0;

/** @throws Error if browsers must have a sandbox and cannot */
export function checkBrowserSandbox(sandbox: BrowserSandbox): void {
  if (sandbox === 'on' && isRoot())
    throw new Error(
      'BROWSER_SANDBOX is on, but Chromium has no sandbox as root. Run Flotilla as another user, or start it with npm start, which does so.',
    );
}

/** The options to start a browser for one account. */
export function launchOptions(
  executablePath: string,
  userDataDir: string,
  network: Network,
  sandbox: BrowserSandbox = 'auto',
): LaunchOptions {
  const args = [...leanArgs];
  if (sandbox === 'off' || (sandbox === 'auto' && isRoot())) args.push('--no-sandbox');
  if (network.kind === 'sandbox') {
    args.push(
      `--host-resolver-rules=MAP web.whatsapp.com:443 ${network.host}:${network.port}`,
      `--ignore-certificate-errors-spki-list=${network.spki}`,
      // Chromium takes a page that was given to it for a page of the Internet, which may not connect to this machine.
      '--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets',
    );
  } else if (network.proxyPort !== null) {
    args.push(...proxyArgs(network.proxyPort));
  }
  return {
    executablePath,
    userDataDir,
    args,
    // The headless shell has only this mode. The full browser no longer has the old headless mode.
    headless: executablePath.includes('headless-shell') ? 'shell' : true,
    // With a pipe, the browser ends by itself if this process is killed. With a socket it would keep running, still linked.
    pipe: true,
    handleSIGINT: false,
    handleSIGTERM: false,
    handleSIGHUP: false,
    defaultViewport: null,
    timeout: 60_000,
  };
}

/** Makes the browser use the proxy for everything. QUIC, which would go around a proxy, is off for every browser. */
function proxyArgs(port: number): string[] {
  return [
    `--proxy-server=http://127.0.0.1:${port}`,
    // Without this rule, Chromium connects to this machine and to link-local addresses directly.
    '--proxy-bypass-list=<-loopback>',
    // No name is looked up on this machine, also not to prefetch it: the proxy looks up the names.
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
    // WebRTC sends UDP, which goes around the proxy. The headless shell and the full browser have different switches.
    '--force-webrtc-ip-handling-policy=disable_non_proxied_udp',
    '--webrtc-ip-handling-policy=disable_non_proxied_udp',
  ];
}
