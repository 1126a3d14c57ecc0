/**
 * What a user of the bare library has: a program that starts its linked sessions in parallel. Run by bench/recovery.mjs with
 * the clients' options as JSON; says `ready` once all of them are, and ends when its input does.
 */
import whatsapp from 'whatsapp-web.js';

/** @type {import('whatsapp-web.js').ClientOptions[]} */
const options = JSON.parse(process.argv[2] ?? '[]');
const clients = options.map((each) => new whatsapp.Client(each));
await Promise.all(
  clients.map(async (client) => {
    const ready = new Promise((resolve) => client.once('ready', resolve));
    await Promise.all([client.initialize(), ready]);
  }),
);
process.stdout.write('ready\n');
process.stdin.on('end', () =>
  Promise.all(clients.map((client) => client.destroy())).then(() => process.exit()),
);
process.stdin.resume();
