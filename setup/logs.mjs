/**
 * The programs' logs for a person: one line per record.
 */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { paint } from './console.mjs';
import { parseJson } from './json.mjs';

const COLOURS = [36, 35, 34, 32, 96, 95, 94, 92];
const LEVEL_COLOURS = { debug: 2, trace: 2, info: 0, warn: 33, error: 31, fatal: 31 };
/** What every record has, and what has a place of its own. */
const KNOWN = new Set(['level', 'time', 'role', 'pid', 'msg', 'err', 'stack']);

/** @param {Date} time */
const clock = (time) =>
  [time.getHours(), time.getMinutes(), time.getSeconds()].map((n) => String(n).padStart(2, '0')).join(':');

/** @param {unknown} value */
function shown(value) {
  if (typeof value === 'string' && /^[^\s"=]+$/.test(value)) return value;
  return JSON.stringify(value);
}

/** @param {string} text @returns {Record<string, unknown> | undefined} */
function parseRecord(text) {
  if (!text.startsWith('{')) return undefined;
  try {
    const record = /** @type {Record<string, unknown>} */ (parseJson(text));
    return typeof record.level === 'string' && typeof record.msg === 'string' ? record : undefined;
  } catch {
    return undefined;
  }
}

/** The stacks of an error and of its causes. @param {unknown} error @returns {string[]} */
function stacksOf(error) {
  if (error === undefined || error === null) return [];
  if (typeof error !== 'object') return [String(shown(error))];
  const { type, message, stack, cause } = /** @type {Record<string, unknown>} */ (error);
  const [first = '', ...rest] = stacksOf(cause);
  return [
    String(stack ?? `${type ?? 'Error'}: ${message ?? shown(error)}`),
    ...(first ? [`caused by ${first}`, ...rest] : []),
  ];
}

/**
 * A line of a program's log as `HH:MM:SS program LEVEL message key=value`, with the stack of an error below it.
 *
 * @param {string} program
 * @param {string} text
 * @param {{ now?: Date, colour?: number }} [options]
 */
export function formatLogLine(program, text, { now = new Date(), colour = 0 } = {}) {
  const name = paint(colour, program.padEnd(11));
  const record = parseRecord(text);
  if (!record) return `${paint(2, clock(now))} ${name} ${text}`;
  const { level, time, msg, err, stack } = record;
  const time_ = typeof time === 'string' ? new Date(time) : now;
  const levelColour = LEVEL_COLOURS[/** @type {keyof typeof LEVEL_COLOURS} */ (level)] ?? 0;
  const facts = Object.entries(record)
    .filter(([key, value]) => !KNOWN.has(key) && value !== undefined)
    .map(([key, value]) => `${paint(2, `${key}=`)}${shown(value)}`);
  const { code, status } = /** @type {Record<string, unknown>} */ (err ?? {});
  if (code !== undefined) facts.push(`${paint(2, 'err.code=')}${shown(code)}`);
  if (status !== undefined) facts.push(`${paint(2, 'err.status=')}${shown(status)}`);
  const line = [
    paint(2, clock(time_)),
    name,
    paint(levelColour, String(level).toUpperCase().padEnd(5)),
    String(msg).replace(/\r?\n/g, '\\n'),
    ...facts,
  ].join(' ');
  const below = [...(typeof stack === 'string' ? [stack] : []), ...stacksOf(err)]
    .flatMap((part) => part.split('\n'))
    .map((part) => `    ${part}`);
  return [line, ...below].join('\n');
}

/** Follows one log file from its present end on, also when supervisord begins a new file under its name. */
class LogFile {
  /** @type {number | undefined} */
  #handle;
  #offset = 0;
  #rest = '';
  #decoder = new TextDecoder();

  /** @param {string} file */
  constructor(file) {
    this.file = file;
    this.#open();
    if (this.#handle !== undefined) this.#offset = fstatSync(this.#handle).size;
  }

  #open() {
    try {
      this.#handle = openSync(this.file, 'r');
      this.#offset = 0;
    } catch (error) {
      // Its program has written nothing yet.
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ENOENT') throw error;
    }
  }

  /** The whole lines that have come since the last call. */
  read() {
    if (this.#handle === undefined) this.#open();
    if (this.#handle === undefined) return [];
    let text = this.#readOn(this.#handle);
    const inode = statSync(this.file, { throwIfNoEntry: false })?.ino;
    if (inode !== undefined && inode !== fstatSync(this.#handle).ino) {
      text += this.#readOn(this.#handle);
      closeSync(this.#handle);
      this.#open();
      if (this.#handle !== undefined) text += this.#readOn(this.#handle);
    }
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    return lines.filter((line) => line.trim());
  }

  /** @param {number} handle */
  #readOn(handle) {
    let text = '';
    const buffer = Buffer.alloc(65_536);
    for (;;) {
      const length = readSync(handle, buffer, 0, buffer.length, this.#offset);
      if (length === 0) return text;
      this.#offset += length;
      text += this.#decoder.decode(buffer.subarray(0, length), { stream: true });
    }
  }

  close() {
    if (this.#handle !== undefined) closeSync(this.#handle);
    this.#handle = undefined;
  }
}

/**
 * Prints what the programs log from now on.
 *
 * @param {readonly { name: string, file: string }[]} programs
 * @param {(text: string) => void} print
 * @returns {() => void} prints what is left, and ends
 */
export function followLogs(programs, print) {
  const logs = programs.map(({ name, file }, n) => ({
    name,
    log: new LogFile(file),
    colour: COLOURS[n % COLOURS.length],
  }));
  const look = () => {
    for (const { name, log, colour } of logs)
      for (const line of log.read()) print(formatLogLine(name, line, { colour }));
  };
  const timer = setInterval(look, 200);
  return () => {
    clearInterval(timer);
    look();
    for (const { log } of logs) log.close();
  };
}
