import type { LaunchOptions } from 'puppeteer';

/** Where an account's browser finds WhatsApp: the real one, or the sandbox in its place. */
export type Network =
  { kind: 'live'; proxyUrl: string | null } | { kind: 'sandbox'; host: string; port: number; spki: string };

/** Fewer processes and no traffic of the browser's own: what a session needs is one page. */
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
  // Dialogs of WhatsApp Web are told apart by the English labels of their buttons.
  '--accept-lang=en-US',
  // Else they grow with the disk; 50 MB hold WhatsApp Web.
  '--disk-cache-size=52428800',
  '--media-cache-size=52428800',
  '--renderer-process-limit=1',
  // One renderer and one network thread inside the browser process instead of processes of their own.
  '--in-process-gpu',
  '--enable-features=NetworkServiceInProcess2',
  '--disable-features=Translate,BackForwardCache,AcceptCHFrame,MediaRouter,OptimizationHints,IsolateOrigins,site-per-process',
  '--disable-site-isolation-trials',
];

/** How a browser is started for one account. */
export function launchOptions(executablePath: string, userDataDir: string, network: Network): LaunchOptions {
  const args = [...leanArgs];
  // Chromium refuses its own sandbox to root; an operator who wants it runs Flotilla as a user of its own.
  if (process.getuid?.() === 0) args.push('--no-sandbox');
  if (network.kind === 'sandbox') {
    args.push(
      `--host-resolver-rules=MAP web.whatsapp.com:443 ${network.host}:${network.port}`,
      `--ignore-certificate-errors-spki-list=${network.spki}`,
    );
  } else if (network.proxyUrl) {
    args.push(`--proxy-server=${network.proxyUrl}`);
  }
  return {
    executablePath,
    userDataDir,
    args,
    // The headless shell has one mode; the full browser's old mode is gone.
    headless: executablePath.includes('headless-shell') ? 'shell' : true,
    // With a pipe the browser ends by itself when this process is killed; with a socket it would live on, still linked.
    pipe: true,
    handleSIGINT: false,
    handleSIGTERM: false,
    handleSIGHUP: false,
    defaultViewport: null,
    timeout: 60_000,
  };
}
