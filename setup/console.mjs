/**
 * The output of set-up: one line per step, and one sentence per failure.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';

export const colour = process.stdout.isTTY && !process.env.NO_COLOR && process.env.TERM !== 'dumb';
export const paint = (/** @type {number} */ code, /** @type {string} */ text) =>
  colour ? `\u001b[${code}m${text}\u001b[0m` : text;

export const bold = (/** @type {string} */ text) => paint(1, text);
export const dim = (/** @type {string} */ text) => paint(2, text);
export const red = (/** @type {string} */ text) => paint(31, text);
export const green = (/** @type {string} */ text) => paint(32, text);
export const yellow = (/** @type {string} */ text) => paint(33, text);

// A closed terminal must not break the orderly stop.
process.stdout.on('error', () => {});
process.stderr.on('error', () => {});

/** A failure that the user can fix: `message` is one sentence that says how, and `detail` is printed above it. */
export class SetupError extends Error {
  /**
   * @param {string} message
   * @param {{ detail?: string, cause?: unknown }} [options]
   */
  constructor(message, { detail, cause } = {}) {
    super(message, { cause });
    this.name = 'SetupError';
    this.detail = detail;
  }
}

/** A step of set-up: `note` sets the text behind its name. @typedef {{ note(text: string): void }} Step */

/** @param {string} text */
export const say = (text) => void process.stdout.write(`${text}\n`);

/**
 * Runs one step with a progress line: a spinner on a terminal, and a line every ten seconds without a terminal.
 *
 * @template T
 * @param {string} name
 * @param {(step: Step) => T | Promise<T>} work
 * @returns {Promise<T>}
 */
export async function step(name, work) {
  const started = Date.now();
  let note = '';
  const seconds = () => Math.round((Date.now() - started) / 1000);
  const line = (/** @type {string} */ mark) => {
    const facts = [note, seconds() >= 1 ? `${seconds()} s` : ''].filter(Boolean).join(', ');
    // A line that wraps cannot be overwritten.
    const room = process.stdout.isTTY
      ? Math.max(10, (process.stdout.columns || 80) - name.length - 6)
      : Infinity;
    return `${mark} ${name}${facts ? dim(` (${facts.length > room ? `${facts.slice(0, room - 1)}…` : facts})`) : ''}`;
  };

  const frames = '⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏';
  let frame = 0;
  const timer = process.stdout.isTTY
    ? setInterval(
        () => process.stdout.write(`\r\u001b[K${line(frames.charAt(frame++ % frames.length))}`),
        120,
      )
    : setInterval(() => say(line('…')), 10_000);
  const finish = (/** @type {string} */ mark) => {
    clearInterval(timer);
    if (process.stdout.isTTY) process.stdout.write('\r\u001b[K');
    say(line(mark));
  };

  try {
    const result = await work({ note: (text) => void (note = text) });
    finish(green('✓'));
    return result;
  } catch (error) {
    finish(red('✗'));
    throw error;
  }
}

/** Like `step`, but prints nothing. @type {typeof step} */
export const silently = async (_name, work) => work({ note: () => {} });

/**
 * Turns any error into one sentence for the user.
 *
 * @param {unknown} error
 * @returns {string}
 */
export function sentence(error) {
  if (error instanceof SetupError) return error.message;
  const { code, path, message, stack } = /** @type {NodeJS.ErrnoException} */ (error) ?? {};
  if (code === 'ENOSPC') {
    return `The disk${path ? ` that holds ${path}` : ''} is full. Free some space (at least 500 MB) and try again.`;
  }
  if ((code === 'EACCES' || code === 'EPERM') && path) {
    return `No permission for ${path} (${ownerOf(path)}). Make the files yours with: sudo chown -R "$USER" ${process.cwd()}`;
  }
  if (code?.startsWith('ERR_PARSE_ARGS')) return message;
  if (code === 'EROFS') return `${path} is on a read-only file system. Set VAR_DIR to a writable directory.`;
  return stack ?? message ?? String(error);
}

/** @param {string} path */
function ownerOf(path) {
  try {
    return `it belongs to user id ${statSync(path).uid}, you are ${process.getuid?.()}`;
  } catch {
    return `you are user id ${process.getuid?.()}`;
  }
}

/** Prints a failure. @param {unknown} error */
export function printFailure(error) {
  const detail = error instanceof SetupError ? error.detail : undefined;
  if (detail) process.stderr.write(`\n${dim(detail.trimEnd())}\n`);
  process.stderr.write(`\n${red('✗')} ${sentence(error)}\n`);
}

/**
 * Asks a yes/no question on the terminal; Enter means yes.
 *
 * @param {string} question
 */
export async function confirm(question) {
  const { createInterface } = await import('node:readline/promises');
  const prompt = createInterface({ input: process.stdin, output: process.stdout });
  try {
    /** @type {Promise<string>} */
    const aborted = new Promise((resolve) =>
      prompt.once('SIGINT', () => resolve('n')).once('close', () => resolve('n')),
    );
    const answer = await Promise.race([prompt.question(`${question} [Y/n] `), aborted]);
    return /^(y(es)?)?$/i.test(answer.trim());
  } finally {
    prompt.close();
  }
}

/**
 * The last lines of a log file, or an empty text without a file.
 *
 * @param {string} file
 * @param {number} [lines]
 */
export function tail(file, lines = 15) {
  try {
    const { size } = statSync(file);
    const buffer = Buffer.alloc(Math.min(size, 16_384));
    const handle = openSync(file, 'r');
    try {
      readSync(handle, buffer, 0, buffer.length, size - buffer.length);
    } finally {
      closeSync(handle);
    }
    return buffer.toString().trimEnd().split('\n').slice(-lines).join('\n');
  } catch {
    return '';
  }
}
