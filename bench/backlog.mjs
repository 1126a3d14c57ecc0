/** A long backlog of campaign messages, inserted by one statement. */
import pg from 'pg';
import { eventually } from './fleet.mjs';

/**
 * Inserts campaign messages as if they had been accepted, and gives them to the accounts in turn. The trigger that writes
 * an event for each message is off: these events cost as much as the rows, and the backlog benchmark does not need them.
 *
 * @param {string} databaseUrl
 * @param {{ accounts: string[], count: number, phone: string, isHeld?: boolean }} backlog an account that is
 *   listed twice gets twice as many. Held messages wait until {@link releaseCampaigns}.
 */
export async function insertBacklog(databaseUrl, { accounts, count, phone, isHeld = false }) {
  await withDatabase(databaseUrl, async (client) => {
    await client.query('begin');
    await client.query('alter table messages disable trigger message_created');
    // UUIDs of version 7, and for each the WhatsApp id that whatsappIdOf() makes from it.
    await client.query(
      `insert into messages (id, workspace_id, account_id, direction, priority, type, chat_id, recipient, sender, text, status,
         whatsapp_id)
       select made.id, a.workspace_id, a.id, 'outgoing', 0, 'text', $3 || '@c.us', $3, a.phone_number,
         'backlog/' || made.number, 'queued', '3EB0' || upper(left(encode(sha256(made.id::text::bytea), 'hex'), 18))
       from (
         select number, ($1::uuid[])[1 + number % cardinality($1::uuid[])] as account_id,
           (lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(number >> 12), 3, '0')
             || '8' || lpad(to_hex(number & 4095), 3, '0') || left(md5(random()::text), 12))::uuid as id
         from generate_series(0, $2::int - 1) number) made
       join accounts a on a.id = made.account_id
       order by made.number`,
      [accounts, count, phone],
    );
    await client.query('alter table messages enable trigger message_created');
    if (isHeld) await client.query(heldHeads);
    await client.query('commit');
    // Autovacuum would do this within a minute, in the middle of a measurement.
    await client.query('vacuum (analyze) messages');
  });
}

/**
 * Holds the messages that wait in the campaign lanes, and returns when none of them is being sent. The first message of
 * each lane waits for ever, and the others wait behind it.
 *
 * @param {string} databaseUrl
 */
export async function holdCampaigns(databaseUrl) {
  await withDatabase(databaseUrl, (client) =>
    eventually('a held campaign', async () => {
      await client.query(heldHeads);
      // A worker may have taken some messages before.
      /** @type {import('pg').QueryResult<{ held: boolean }>} */
      const { rows } = await client.query(
        `select not exists (select from messages where stage = 'sending' or id in (${campaignHeads})
           and stage = 'queued' and next_attempt_at < 'infinity') as held`,
      );
      return rows[0]?.held;
    }),
  );
}

/** Releases the campaign lanes. @param {string} databaseUrl */
export async function releaseCampaigns(databaseUrl) {
  await withDatabase(databaseUrl, (client) =>
    client.query(
      `update messages set next_attempt_at = now() where id in (${campaignHeads}) and stage = 'queued'`,
    ),
  );
}

const campaignHeads = `select head.id from accounts a cross join lateral (
  select m.id from messages m where m.account_id = a.id and m.stage = 'queued' and m.priority = 0
  order by m.priority desc, m.seq limit 1) head`;

const heldHeads = `update messages set next_attempt_at = 'infinity' where id in (${campaignHeads}) and stage = 'queued'`;

/**
 * @template Result
 * @param {string} databaseUrl
 * @param {(client: import('pg').Client) => Promise<Result>} work
 * @returns {Promise<Result>}
 */
export async function withDatabase(databaseUrl, work) {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
