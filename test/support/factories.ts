import { v7 as uuidv7 } from 'uuid';
import type { Account } from '../../src/accounts/account.entity.js';
import type { PageMessage } from '../../src/whatsapp/in-page/page-functions.js';
import type { Claim } from '../../src/sending/claims.js';

/** A database of TypeORM or a client of pg. */
interface Database {
  query(statement: string, values: unknown[]): Promise<unknown>;
}

/** Columns by their names in SQL. */
type Columns = Record<string, unknown>;

/** Writes one row; what the table has defaults for may be left out. */
export async function insertRow(database: Database, table: string, columns: Columns): Promise<void> {
  const names = Object.keys(columns);
  await database.query(
    `insert into ${table} (${names.join()}) values (${names.map((_name, index) => `$${index + 1}`).join()})`,
    Object.values(columns),
  );
}

/** @returns its id, as of all that follow */
export async function insertWorkspace(database: Database, columns: Columns = {}): Promise<string> {
  const id = uuidv7();
  await insertRow(database, 'workspaces', { id, name: 'test', ...columns });
  return id;
}

/** A sandbox account; unless its columns say otherwise, nobody has asked to connect it yet. */
export async function insertAccount(
  database: Database,
  workspaceId: string,
  { id = uuidv7(), ...columns }: Columns & { id?: string } = {},
): Promise<string> {
  await insertRow(database, 'accounts', {
    id,
    workspace_id: workspaceId,
    name: 'test',
    environment: 'sandbox',
    ...columns,
  });
  return id;
}

/** What makes an account one that sends. */
export const ready = { status: 'ready', desired_state: 'connected' } as const;

export async function insertServer(database: Database, id: string, columns: Columns = {}): Promise<string> {
  await insertRow(database, 'servers', { id, name: id, max_capacity: 100, ...columns });
  return id;
}

/** An instance that holds its lease for so long; its id begins with that of its server. */
export async function insertInstance(
  database: Database,
  id: string,
  { url = 'http://127.0.0.1:1', maxAccounts = 100, leaseMs = 3_600_000 } = {},
): Promise<string> {
  await insertRow(database, 'instances', {
    id,
    server_id: id.slice(0, id.lastIndexOf('.')),
    url,
    status: 'active',
    lease_expires_at: new Date(Date.now() + leaseMs),
    max_accounts: maxAccounts,
  });
  return id;
}

/** A message that an instance has claimed: a text, tried for the first time. */
export function claimOf(own: Partial<Claim> = {}): Claim {
  return {
    id: uuidv7(),
    accountId: uuidv7(),
    chatId: '6281234567890@c.us',
    type: 'text',
    text: 'text',
    media: null,
    content: null,
    quoted: null,
    whatsappId: 'X',
    priority: 1,
    attempt: 1,
    epoch: 0,
    isExpired: false,
    isPaced: false,
    ...own,
  };
}

/** A text that came in, as a page tells of it. */
export function pageMessageOf(own: Partial<PageMessage> = {}): PageMessage {
  const from = '6281234567890@c.us';
  return {
    whatsappId: 'X',
    fromMe: false,
    ack: 0,
    chatId: from,
    source: null,
    alias: null,
    from,
    fromAlias: null,
    fromName: null,
    subject: null,
    to: '6289@c.us',
    type: 'chat',
    text: 'text',
    isViewOnce: false,
    isGif: false,
    timestamp: Math.floor(Date.now() / 1_000),
    media: null,
    location: null,
    vcards: [],
    poll: null,
    quoted: null,
    mentions: [],
    ...own,
  };
}

/** An account that was never linked, as TypeORM reads it. */
export function accountOf(own: Partial<Account> = {}): Account {
  const now = new Date();
  return {
    id: uuidv7(),
    workspaceId: uuidv7(),
    name: 'test',
    environment: 'sandbox',
    phoneNumber: null,
    lid: null,
    desiredState: 'disconnected',
    status: 'created',
    statusReason: null,
    instanceId: null,
    epoch: 0,
    pinnedInstanceId: null,
    heldBy: null,
    moveTo: null,
    movingSince: null,
    placement: null,
    linkMethod: 'qr',
    linkPhoneNumber: null,
    allowNumberChange: false,
    refusedNumber: null,
    qr: null,
    qrExpiresAt: null,
    pairingCode: null,
    pairingCodeExpiresAt: null,
    labels: [],
    pacing: null,
    receive: { stories: false, channels: false },
    autoRead: false,
    rejectCalls: false,
    callAnswer: null,
    proxyUrl: null,
    proxyCredentials: null,
    linkedAt: null,
    lastConnectedAt: null,
    webVersion: null,
    webContract: null,
    webMissing: null,
    webCheckedAt: null,
    createdAt: now,
    updatedAt: now,
    ...own,
  };
}
