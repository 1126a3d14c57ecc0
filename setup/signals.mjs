/**
 * Ctrl-C and its relatives.
 */
import { say } from './console.mjs';

/**
 * Calls `stop` on the first INT or TERM (HUP too, when there was a terminal); later ones only say that it is under way.
 *
 * @param {(signal: NodeJS.Signals) => void} stop
 */
export function onStopSignal(stop) {
  /** @type {number | undefined} */
  let first;
  const handle = (/** @type {NodeJS.Signals} */ signal) => {
    if (first !== undefined) {
      // npm passes a Ctrl-C on that the terminal has sent already.
      if (Date.now() - first > 1000)
        say('Still stopping: messages that are being sent get up to 40 s to finish.');
      return;
    }
    first = Date.now();
    stop(signal);
  };
  process.on('SIGINT', handle);
  process.on('SIGTERM', handle);
  // npm, when it is told to end, ends its shell; we are that shell's child.
  if (process.env.npm_lifecycle_event) {
    const parent = process.ppid;
    setInterval(() => process.ppid !== parent && first === undefined && handle('SIGTERM'), 500).unref();
  }
  // Without a terminal it is nohup that sends it to nobody.
  process.on('SIGHUP', process.stdout.isTTY ? handle : () => {});
}
