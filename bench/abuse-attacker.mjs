/** Plays one attack after the other in a process of its own, with less priority than the system that it attacks. */
import { setMaxListeners } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { setPriority } from 'node:os';
import { attacks } from './abuse-attacks.mjs';
import { servePart } from './abuse-part.mjs';

// A real attacker has a machine of its own: only the system should be slow, and not for lack of a processor.
setPriority(10);
// Linux may share the processors between sessions first (autogroups): then only the priority of the session counts. This part has
// a session of its own.
await writeFile('/proc/self/autogroup', '10').catch(() => undefined);

/** @type {unknown} */
let prepared;

servePart({
  prepare: async (/** @type {{ name: string, context: import('./abuse-attacks.mjs').Context }} */ given) => {
    prepared = await attacks[given.name]?.prepare?.(given.context);
  },
  run: async (/** @type {{ name: string, context: import('./abuse-attacks.mjs').Context }} */ given) => {
    const signal = AbortSignal.timeout(given.context.seconds * 1_000);
    // Thousands of requests and sockets listen to it, which is no leak.
    setMaxListeners(0, signal);
    return attacks[given.name]?.run(given.context, signal, prepared);
  },
});
