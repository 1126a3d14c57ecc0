/**
 * What a user of the bare library has: a program that starts its linked sessions in parallel. Run by bench/recovery.mjs with
 * the clients' options as JSON; says `ready` once all of them are, and runs until it is killed.
 */
import whatsapp from 'whatsapp-web.js';

/** @type {import('whatsapp-web.js').ClientOptions[]} */
const options = JSON.parse(process.argv[2] ?? '[]');
await Promise.all(
  options.map(async (each) => {
    const client = new whatsapp.Client(each);
    const ready = new Promise((resolve) => client.once('ready', resolve));
    await Promise.all([client.initialize(), ready]);
  }),
);
process.stdout.write('ready\n');
