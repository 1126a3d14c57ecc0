/**
 * Tables have owners: a folder of src names in its SQL only tables of its own and of folders to its left (the line is in
 * architecture.cjs). A view or a function of the database counts as the tables that its text names.
 * test/platform/sql-owners.spec.ts checks it.
 */

/** The tables of each folder. */
export const owners: Record<string, string[]> = {
  // TypeORM writes down there which migrations have run.
  platform: ['migrations'],
  workspaces: ['workspaces', 'api_keys', 'audit_log', 'message_rates'],
  events: ['events'],
  queues: ['queues', 'workers', 'worker_restarts', 'failed_jobs'],
  media: ['media', 'media_blobs'],
  webhooks: ['webhooks', 'webhook_deliveries', 'webhook_lanes', 'webhook_cursor'],
  instances: ['servers', 'instances', 'load_balancing', 'server_logs', 'server_stats'],
  pacing: ['account_pacing', 'contacts'],
  accounts: ['accounts', 'connection_logs', 'web_versions', 'web_version_policy', 'used_whatsapp_ids'],
  sessions: ['session_snapshots'],
  messages: ['messages', 'idempotency_keys', 'recipient_ids'],
  receiving: ['uncertain_messages'],
  campaigns: [
    'campaigns',
    'campaign_accounts',
    'campaign_recipients',
    'campaign_zones',
    'message_templates',
    'message_template_versions',
    'campaign_invalid_lines',
    'campaign_changes',
    'suppressions',
  ],
};

/** SQL that names a table of a folder to its right, each with the reason. At most {@link mostExceptions}. */
export const exceptions: { file: string; table: string; reason: string }[] = [
  {
    file: 'queues/failed-jobs.service.ts',
    table: 'messages',
    reason:
      'The failed job of a lane stands for its message. One statement looks at the message and writes or deletes the job, so that the message cannot change in between.',
  },
  {
    file: 'media/media-in-use.ts',
    table: 'messages',
    reason:
      'A media that a waiting message needs is not deleted. The same statement or transaction must look and delete, with the media locked.',
  },
  {
    file: 'webhooks/webhooks.service.ts',
    table: 'accounts',
    reason:
      'A webhook names accounts, which are checked in the transaction that writes the webhook, or labels of accounts, which the statements that choose its events look at.',
  },
  {
    file: 'instances/instance-lease.ts',
    table: 'accounts',
    reason:
      'An instance that ends gives up its lease and the accounts that it holds in one statement, over the connection of the lease.',
  },
  {
    file: 'instances/account-counts.ts',
    table: 'accounts',
    reason:
      'The load of an instance is the number of its accounts. A placement counts it in the transaction that places, with the placement lock held.',
  },
  {
    file: 'pacing/pacing.service.ts',
    table: 'accounts',
    reason:
      'The pacing of an account is one of its columns. New settings lock the account and read it together with its state.',
  },
  {
    file: 'accounts/assignments.service.ts',
    table: 'session_snapshots',
    reason:
      'Where an account may be placed depends on its snapshot. A placement reads both in one statement.',
  },
  {
    file: 'sending/lane-order.ts',
    table: 'campaigns',
    reason:
      'The claim of a message reads whether its campaign runs, so that nothing of it leaves after a pause. It calls the function campaign_runs.',
  },
  {
    file: 'sessions/own-accounts.ts',
    table: 'messages',
    reason:
      'An instance that starts restores the accounts with urgent messages first. One statement reads the accounts in that order.',
  },
];

export const mostExceptions = 9;

/** SQL with `${value}` where a table stands, and the tables that it may be. */
export const placeholders: { file: string; value: string; tables: string[]; reason: string }[] = [
  {
    file: 'sending/claims.ts',
    value: `laneHead('$1', '$3')`,
    tables: [],
    reason: 'It is a query in brackets, which lane-order.ts writes.',
  },
  {
    file: 'sending/claims.ts',
    value: `laneHead('$2', '$6')`,
    tables: [],
    reason: 'It is a query in brackets, which lane-order.ts writes.',
  },
  {
    file: 'webhooks/webhook-fan-out.ts',
    value: 'rows',
    tables: [],
    reason: 'It is the name of a query that the caller gives by "with".',
  },
  {
    file: 'instances/stats.service.ts',
    value: 'table',
    tables: ['server_stats', 'server_logs', 'audit_log'],
    reason: 'One loop deletes the old rows of each.',
  },
  {
    file: 'admin/key-rotation.service.ts',
    value: 'column.table',
    tables: ['session_snapshots', 'webhooks'],
    reason: 'One loop encrypts each column again.',
  },
];
