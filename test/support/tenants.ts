import type { Flotilla, Workspace } from './flotilla.js';
import { type Operation, operations, resolve } from './documented.js';

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- JSON of any shape
type Json = any;

/** Looks like an id, and is nobody's. */
export const nobody = '01960000-0000-7000-8000-000000000000';
export const keyRoles = ['viewer', 'sender', 'owner'] as const;
export type KeyRole = (typeof keyRoles)[number];

/** Two tenants, a key of each role for either, and one thing of each kind that the first one has. */
export interface Tenants {
  first: Workspace;
  second: Workspace;
  /** Keys of the first workspace. */
  keys: Record<KeyRole, string>;
  /** The second one's owner. */
  stranger: string;
  /** Of the first workspace, by the path of the collection: `/api/v1/accounts` → its account. */
  things: Map<string, string>;
}

/** Whether a workspace's key may call an operation. */
export function maySuffice(role: KeyRole, needed: string | undefined): boolean {
  if (needed === 'public') return true;
  const rank = keyRoles.indexOf(needed as KeyRole);
  return rank >= 0 && keyRoles.indexOf(role) >= rank;
}

export async function makeTenants(flotilla: Flotilla): Promise<Tenants> {
  const [first, second] = [await flotilla.newWorkspace('first'), await flotilla.newWorkspace('second')];
  const keys = {
    owner: first.key,
    sender: await first.keyFor('sender'),
    viewer: await first.keyFor('viewer'),
  };
  const things = new Map([['/api/v1/workspaces', first.id]]);
  const tenants = { first, second, keys, stranger: second.key, things };
  // One for the admin's paths and one, below, for the owner's: a key is rotated once.
  const apiKeys = `/workspaces/${first.id}/api-keys`;
  const { body: key } = await flotilla.call('POST', apiKeys, { name: 'a key', role: 'viewer' });
  things.set('/api/v1/workspaces/{id}/api-keys', key.id);
  const file = await upload(flotilla, keys.sender);
  things.set('/api/v1/media', file);
  for (const operation of creators()) {
    const admin = operation.role === 'admin';
    const { status, body } = await flotilla.call(
      operation.method,
      operation.path.slice('/api/v1'.length),
      validBody(operation, tenants),
      admin ? flotilla.adminKey : keys.owner,
    );
    const id = body?.id ?? body?.mediaId;
    if (status < 300 && typeof id === 'string') things.set(operation.path, id);
  }
  const recipients = `/campaigns/${things.get('/api/v1/campaigns')}/recipients`;
  await first.call('POST', recipients, { recipients: [{ to: '+6281234567890' }] });
  const { body: loaded } = await first.call('GET', recipients);
  things.set('/api/v1/campaigns/{id}/recipients', loaded.items[0].id);
  return tenants;
}

async function upload(flotilla: Flotilla, key: string): Promise<string> {
  const form = new FormData();
  form.set('file', new Blob(['a file of the first workspace'], { type: 'text/plain' }), 'note.txt');
  const url = `${flotilla.stack.urls.api}/api/v1/media`;
  const response = await fetch(url, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}` },
    body: form,
  });
  const answer = (await response.json()) as { mediaId?: string };
  if (!answer.mediaId) throw new Error(`the upload was refused: ${JSON.stringify(answer)}`);
  return answer.mediaId;
}

/** The operations that make a thing of which others tell by its id, those that depend on nothing first. */
function creators(): Operation[] {
  const collections = new Set(
    operations.flatMap(({ path }) =>
      [...path.matchAll(/\{\w+\}/g)].map(({ index }) => path.slice(0, index - 1)),
    ),
  );
  const found = operations.filter(
    ({ method, path, body }) =>
      method === 'POST' &&
      body &&
      collections.has(path) &&
      !path.includes('{') &&
      path !== '/api/v1/workspaces',
  );
  const needsAccount = ({ body }: Operation) =>
    Object.keys(resolve(body).properties ?? {}).some((name) => name.startsWith('account'));
  return found.sort((a, b) => Number(needsAccount(a)) - Number(needsAccount(b)));
}

/** The example of an operation, pointed at what the first workspace has; undefined when it takes no JSON. */
export function validBody(operation: Operation, { things }: Pick<Tenants, 'things'>): Json {
  if (!operation.body) return undefined;
  const schema = resolve(operation.body);
  // Nobody's machine is asked for anything: a name that never leads anywhere, by RFC 2606.
  const example = JSON.stringify(schema.examples?.[0] ?? {});
  const body = JSON.parse(example.replaceAll('https://example.com', 'https://flotilla.invalid')) as Json;
  const known = schema.properties ?? {};
  const account = things.get('/api/v1/accounts');
  if ('environment' in known && operation.path === '/api/v1/accounts') body.environment = 'sandbox';
  if ('accountId' in known && account) body.accountId = account;
  if ('accountIds' in known && account) body.accountIds = [account];
  for (const message of Array.isArray(body.messages) ? body.messages : []) message.accountId = account;
  return body;
}

/** The ids in a path, of things of the first workspace where there are some. */
export function pathOf(
  operation: Operation,
  { things }: Pick<Tenants, 'things'>,
): { path: string; isKnown: boolean } {
  let isKnown = operation.path.includes('{');
  const path = operation.path.replace(/\{(\w+)\}/g, (_text, name: string, index: number) => {
    const thing = things.get(operation.path.slice(0, index - 1));
    const parameter = operation.parameters.find((one) => one.in === 'path' && one.name === name);
    if (thing === undefined && index === operation.path.indexOf('{')) isKnown = false;
    return encodeURIComponent(thing ?? String(parameter?.example ?? nobody));
  });
  return { path, isKnown };
}
