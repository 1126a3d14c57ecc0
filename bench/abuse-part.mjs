/**
 * The parts of the abuse benchmark run in processes of their own: the load of the hostile workspace must not delay the clock of
 * the victim. A part ends with the process that started it.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

/** @typedef {{ id: number, what: string, argument: unknown }} Question */
/** @typedef {{ id: number, value?: unknown, error?: string }} Reply */
/** @typedef {ReturnType<typeof startPart>} Part */

const stopMs = 5_000;
/** Longer than any attack. */
const replyMs = 600_000;

/** Starts a part. @param {string} file in this folder; it calls {@link servePart} */
export function startPart(file) {
  // Not the flags of this process: they are those of a test runner, or of a debugger.
  const child = fork(join(import.meta.dirname, file), {
    execArgv: [],
    serialization: 'advanced',
    detached: true,
  });
  /** @type {Map<number, (reply: Reply) => void>} */
  const waiting = new Map();
  let asked = 0;
  child.on('message', (/** @type {Reply} */ reply) => {
    waiting.get(reply.id)?.(reply);
    waiting.delete(reply.id);
  });
  child.once('exit', (code, signal) => {
    for (const [id, tell] of waiting) tell({ id, error: `${file} has ended (${code ?? signal})` });
    waiting.clear();
  });
  return {
    /**
     * Calls a handler of the part.
     *
     * @template [Value=void]
     * @param {string} what the name of the handler
     * @param {unknown} [argument]
     * @returns {Promise<Value>}
     */
    async ask(what, argument) {
      if (!child.connected) throw new Error(`${file} has ended`);
      const id = (asked += 1);
      /** @type {Promise<Reply>} */
      const answered = new Promise((resolve) => waiting.set(id, resolve));
      const giveUp = setTimeout(
        () => waiting.get(id)?.({ id, error: `${file} did not reply to ${what} within ${replyMs} ms` }),
        replyMs,
      );
      child.send({ id, what, argument });
      const { value, error } = await answered;
      clearTimeout(giveUp);
      if (error !== undefined) throw new Error(error);
      return /** @type {Value} */ (value);
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      const kill = setTimeout(() => child.kill('SIGKILL'), stopMs);
      child.kill('SIGTERM');
      await ended;
      clearTimeout(kill);
    },
  };
}

/** Answers the questions of the process that started this one. @param {Record<string, (argument: never) => unknown>} handlers */
export function servePart(handlers) {
  process.on('message', (/** @type {Question} */ { id, what, argument }) => {
    const reply = (/** @type {Omit<Reply, 'id'>} */ answer) => process.send?.({ id, ...answer });
    void (async () => handlers[what]?.(/** @type {never} */ (argument)))().then(
      (value) => reply({ value }),
      (/** @type {unknown} */ error) =>
        reply({ error: error instanceof Error ? error.stack : String(error) }),
    );
  });
  process.once('disconnect', () => process.exit());
}
