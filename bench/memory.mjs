/**
 * Browser memory per account: ours against the library's default launch. That is the full browser in its new headless mode.
 * Both are linked to the same sandbox and idle.
 *
 * The proportional set size (PSS) contains a share of Chromium's code, which is in memory once and is divided among all browsers of
 * the machine. So the PSS of an account falls with each further browser, also with a browser of another program. The own
 * memory does not: it is what an account adds to a server.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { findFullBrowser } from '../setup/system-packages.mjs';
import { browserMemory, browsersIn, startBareClients, startFleet } from './fleet.mjs';

const accountCount = 4;
/** Browsers free memory after their start; memory is read after that. */
const settleMs = 10_000;

/** @param {{ log: (text: string) => void }} options */
export async function run({ log }) {
  const fullBrowser = findFullBrowser();
  if (!fullBrowser) {
    throw new Error(
      "The library's default launch needs the full browser: apt-get install chromium, and run this again.",
    );
  }
  const fleet = await startFleet({ accounts: accountCount });
  try {
    const bare = await startBareClients({
      sandboxUrl: fleet.stack.urls.sandbox,
      count: accountCount,
      puppeteer: {
        executablePath: fullBrowser,
        headless: true,
        args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
      },
    });
    try {
      await delay(settleMs);
      const ours = browserMemory(join(fleet.stack.varDir, 'sessions'));
      const theirs = browserMemory(bare.folder);
      const others = browsersIn('').length - ours.processes - theirs.processes;
      log(`ours: ${ours.processes} processes; the library's default: ${theirs.processes} processes`);
      if (others > 0) log(`${others} processes of other browsers share Chromium's code: PSS is too low`);
      const mebibytes = (/** @type {number} */ bytes) => (bytes / accountCount / 2 ** 20).toFixed(0);
      return {
        accounts: accountCount,
        others,
        ours,
        libraryDefault: theirs,
        ratio: ours.bytes / theirs.bytes,
        ownRatio: ours.own / theirs.own,
        rows: [
          { what: "the library's default launch, PSS, MiB per account", value: mebibytes(theirs.bytes) },
          { what: 'ours, PSS, MiB per account', value: mebibytes(ours.bytes) },
          { what: 'ratio', value: (ours.bytes / theirs.bytes).toFixed(2), target: '<= 0.5' },
          {
            what: "the library's default launch, own memory, MiB per account",
            value: mebibytes(theirs.own),
          },
          { what: 'ours, own memory, MiB per account', value: mebibytes(ours.own), target: '<= 40' },
          { what: 'ratio', value: (ours.own / theirs.own).toFixed(2), target: '<= 0.28' },
          { what: 'processes of other browsers', value: String(others), target: '0' },
        ],
      };
    } finally {
      await bare.stop();
    }
  } finally {
    await fleet.stack.stop();
  }
}
