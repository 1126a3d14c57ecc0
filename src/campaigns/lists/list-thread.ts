import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { Worker } from 'node:worker_threads';
import { projectRoot } from '../../platform/config/config.js';
import { Problem } from '../../platform/errors/problem.js';
import type { InvalidLine } from './list-rows.js';
import type { ListOptions } from './read-list.js';

/** What the thread needs to know. */
export interface ThreadOptions extends Omit<ListOptions, 'turn'> {
  /** The variables that each line must have. */
  required: string[];
}

/** A part of a list, as columns for a statement: the values at one place of the arrays belong together. */
export interface PreparedLines {
  header: readonly string[];
  ids: string[];
  persons: string[];
  recipients: string[];
  /** The clocks of the recipients: see sending-windows.ts. */
  zones: string[];
  /** JSON objects. */
  variables: string[];
  invalid: InvalidLine[];
}

/** What the thread says: it wants bytes, it has read lines, or it has come to an end. */
export type FromThread =
  | { kind: 'more' }
  | { kind: 'lines'; lines: PreparedLines }
  | { kind: 'end' }
  | { kind: 'problem'; status: number; code: string; message: string };

/** What the thread hears: bytes, the end of the list (null), or that it may go on with the next lines. */
export type ToThread = { kind: 'bytes'; bytes: Uint8Array | null } | { kind: 'next' };

/** The memory of a thread, in megabytes. A list needs a few; the shared strings of an XLSX file need more. */
const maxMegabytes = 192;
/** The memory of its young objects, in megabytes: those of one part of a list. By default V8 takes several times as much. */
const youngMegabytes = 12;

/**
 * Reads a list in a thread of its own: most of the work for a list of a million lines is the reading of numbers, and the event loop is
 * for the requests of others. The thread reads ahead by at most two parts.
 * @throws the errors of `readList`
 */
export async function* readInThread(source: Readable, options: ThreadOptions): AsyncGenerator<PreparedLines> {
  const thread = new Worker(join(projectRoot, 'dist', 'src', 'campaigns', 'lists', 'list-thread.main.js'), {
    workerData: options,
    resourceLimits: { maxOldGenerationSizeMb: maxMegabytes, maxYoungGenerationSizeMb: youngMegabytes },
  });
  const say = (message: ToThread) => thread.postMessage(message);
  const chunks = source[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  const arrived: FromThread[] = [];
  let failure: unknown = null;
  let wake = () => {};
  const fail = (error: unknown) => {
    failure ??= error;
    wake();
  };
  thread.on('message', (message: FromThread) => {
    if (message.kind !== 'more') {
      arrived.push(message);
      wake();
      return;
    }
    chunks.next().then(({ done, value }) => say({ kind: 'bytes', bytes: done ? null : value }), fail);
  });
  thread.on('error', fail);
  // After its last message, too: the messages that have arrived count first.
  thread.on('exit', () => fail(new Error('the thread that reads a list has ended')));
  try {
    for (;;) {
      const message = arrived.shift();
      if (message === undefined) {
        if (failure !== null) throw failure;
        await new Promise<void>((resolve) => (wake = resolve));
        continue;
      }
      if (message.kind === 'end') return;
      if (message.kind === 'problem') throw new Problem(message.status, message.code, message.message);
      if (message.kind === 'lines') yield message.lines;
      say({ kind: 'next' });
    }
  } finally {
    await thread.terminate();
  }
}
