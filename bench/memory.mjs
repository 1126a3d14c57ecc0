/**
 * Browser memory per account (PSS of all its processes): ours against the library's default launch. That is the full
 * browser in its new headless mode. Both are linked to the same sandbox and idle.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { findFullBrowser } from '../setup/system-packages.mjs';
import { browserMemory, startBareClients, startFleet } from './fleet.mjs';

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
      log(`ours: ${ours.processes} processes; the library's default: ${theirs.processes} processes`);
      const mebibytes = (/** @type {number} */ bytes) => (bytes / accountCount / 2 ** 20).toFixed(0);
      return {
        accounts: accountCount,
        ours,
        libraryDefault: theirs,
        ratio: ours.bytes / theirs.bytes,
        rows: [
          { what: "the library's default launch, MiB per account", value: mebibytes(theirs.bytes) },
          { what: 'ours, MiB per account', value: mebibytes(ours.bytes) },
          { what: 'ratio', value: (ours.bytes / theirs.bytes).toFixed(2), target: '<= 0.5' },
        ],
      };
    } finally {
      await bare.stop();
    }
  } finally {
    await fleet.stack.stop();
  }
}
