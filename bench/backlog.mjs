/** A long backlog of campaign messages, made in one statement. */
import pg from 'pg';

/**
 * Inserts campaign messages as if they had been accepted, dealt out to accounts in turn. The trigger that writes an event for
 * each is off meanwhile: those events are not what a benchmark of the backlog is about, and cost as much as the rows.
 * @param {string} databaseUrl
 * @param {{ accounts: string[], count: number, phone: string }} backlog an account named twice gets twice as many
 */
export async function insertBacklog(databaseUrl, { accounts, count, phone }) {
  await withDatabase(databaseUrl, async (client) => {
    await client.query('begin');
    await client.query('alter table messages disable trigger message_created');
    // Ids of version 7, and of each the WhatsApp id that whatsappIdOf() makes of it.
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
    await client.query('commit');
    // What autovacuum does within a minute: it is not to happen in the middle of a measurement.
    await client.query('vacuum (analyze) messages');
  });
}

/**
 * Holds what waits in the campaign lanes, or lets it go: the first of each waits for ever, and the others behind it.
 * @param {string} databaseUrl @param {boolean} isHeld
 */
export async function holdCampaigns(databaseUrl, isHeld) {
  await withDatabase(databaseUrl, async (client) => {
    await client.query(
      `update messages set next_attempt_at = ${isHeld ? "'infinity'" : 'now()'}
       where id in (select head.id from accounts a cross join lateral (
         select m.id from messages m where m.account_id = a.id and m.stage = 'queued' and m.priority = 0
         order by m.priority desc, m.seq limit 1) head)`,
    );
  });
}

/** @template Result @param {string} databaseUrl @param {(client: pg.Client) => Promise<Result>} work @returns {Promise<Result>} */
export async function withDatabase(databaseUrl, work) {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
