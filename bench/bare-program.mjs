/**
 * A program of a user of the bare library, which starts its linked sessions in parallel. bench/recovery.mjs runs it with the
 * clients' options as JSON. It prints `ready` when all clients are ready, and runs until it is killed.
 */
import whatsapp from 'whatsapp-web.js';
import { parseJson } from '../setup/json.mjs';

const options = /** @type {import('whatsapp-web.js').ClientOptions[]} */ (parseJson(process.argv[2] ?? '[]'));
await Promise.all(
  options.map(async (each) => {
    const client = new whatsapp.Client(each);
    const ready = new Promise((resolve) => client.once('ready', () => resolve(undefined)));
    await Promise.all([client.initialize(), ready]);
  }),
);
process.stdout.write('ready\n');
