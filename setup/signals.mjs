/**
 * The signals that stop a program: Ctrl-C and others.
 */
import { say } from './console.mjs';

/**
 * Calls `stop` on the first INT or TERM, and on HUP when there is a terminal. Later signals only print that it is stopping.
 *
 * @param {(signal: NodeJS.Signals) => void | Promise<void>} stop
 */
export function onStopSignal(stop) {
  /** @type {number | undefined} */
  let first;
  const handle = (/** @type {NodeJS.Signals} */ signal) => {
    if (first !== undefined) {
      // npm passes on the Ctrl-C that the terminal has already sent to this process.
      if (Date.now() - first > 1000)
        say('Still stopping: messages that are being sent have up to 40 s to finish.');
      return;
    }
    first = Date.now();
    void stop(signal);
  };
  process.on('SIGINT', handle);
  process.on('SIGTERM', handle);
  // npm ends its shell, which is the parent of this process, and sends this process no signal.
  if (process.env.npm_lifecycle_event) {
    const parent = process.ppid;
    setInterval(() => process.ppid !== parent && first === undefined && handle('SIGTERM'), 500).unref();
  }
  // Without a terminal the program runs under nohup, which ignores HUP.
  process.on('SIGHUP', process.stdout.isTTY ? handle : () => {});
}
