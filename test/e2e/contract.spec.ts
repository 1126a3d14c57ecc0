import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Operation, operations, resolve, undocumented } from '../support/documented.js';
import { Flotilla } from '../support/flotilla.js';
import {
  keyRoles,
  makeTenants,
  maySuffice,
  nobody,
  pathOf,
  type Tenants,
  validBody,
} from '../support/tenants.js';

let flotilla: Flotilla;
let tenants: Tenants;

beforeAll(async () => {
  flotilla = await Flotilla.start({
    programs: ['api'],
    env: { RATE_LIMIT_PER_KEY: '0', RATE_LIMIT_PER_WORKSPACE: '0' },
  });
  tenants = await makeTenants(flotilla);
});
afterAll(() => flotilla?.stop());

// Nothing is deleted before everybody has looked at it: what lies deepest goes first, the workspace last.
const last = ['/api/v1/workspaces/{id}', '/api/v1/accounts/{id}'];
const depth = ({ path }: Operation) => (last.includes(path) ? last.indexOf(path) : path.split('/').length);
const ordered = [
  ...operations.filter(({ method }) => method !== 'DELETE'),
  ...operations.filter(({ method }) => method === 'DELETE').sort((a, b) => depth(b) - depth(a)),
];
const named = ordered.map((operation) => [`${operation.method} ${operation.path}`, operation] as const);
const withBody = named.filter(([, { body }]) => body !== undefined);
const isStream = ({ responses }: Operation) =>
  resolve(responses['200'])?.content?.['text/event-stream'] !== undefined;
const isScoped = ({ role }: Operation) => (keyRoles as readonly (string | undefined)[]).includes(role);

/** What cannot be done here, where no account is linked, no message is sent and no instance runs. All else succeeds. */
const impossible: [RegExp, string][] = [
  [/accounts\/\{id\}\/(restart|logout|screenshot|numbers|chats|contacts|groups)\b/, 'account.not_ready'],
  [/accounts\/\{id\}\/(qr|sandbox-scan)$/, 'account.no_qr'],
  [/accounts\/\{id\}\/pairing-code$/, 'account.no_pairing_code'],
  [/accounts\/\{id\}\/resume-cold$/, 'account.cold_not_paused'],
  [/accounts\/\{id\}\/migrate$/, 'instance.none_available'],
  [/messages\/\{id\}\/reaction$/, 'message.not_sent'],
  [/messages\/\{id\}\/read$/, 'message.not_incoming'],
  [/messages\/\{id\}\/media$/, 'message.no_media'],
  [/messages\/\{id\}\/resend$/, 'message.not_resendable'],
  [/deliveries\/\{deliveryId\}\/redeliver$/, 'webhook.delivery_not_found'],
  [/instances\/\{id\}\/(drain|activate)$/, 'instance.not_found'],
  [/^PUT \/api\/v1\/admin\/web-versions\/policy$/, 'web_version.not_kept'],
  // A file is sent by the media's own tests.
  [/^POST \/api\/v1\/media$/, 'media.unsupported_upload'],
];

interface Answer {
  status: number;
  code: string | undefined;
  body: unknown;
}

/** Calls an operation, and holds the answer against the document. */
async function call(
  operation: Operation,
  key: string | null,
  {
    path = pathOf(operation, tenants).path,
    body,
    query = '',
  }: { path?: string; body?: unknown; query?: string } = {},
): Promise<Answer> {
  const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
  const response = await request(`${flotilla.stack.urls.api}${path}${query}`, {
    method: operation.method as 'GET',
    headers: {
      ...(key === null ? {} : { authorization: `Bearer ${key}` }),
      ...(text === undefined ? {} : { 'content-type': 'application/json' }),
    },
    body: text,
  });
  const type = String(response.headers['content-type'] ?? '') || null;
  let answered: unknown = null;
  if (type?.includes('event-stream')) response.body.destroy();
  else if (type?.includes('json')) answered = await response.body.json();
  else answered = await response.body.text();
  const { statusCode: status } = response;
  expect(undocumented(operation, { status, type, body: answered })).toBe(null);
  return { status, code: (answered as { code?: string } | null)?.code, body: answered };
}

const allowed = (operation: Operation) =>
  operation.role === 'admin' ? flotilla.adminKey : tenants.keys.owner;

describe('each operation of the document', () => {
  it('stands for a thing that the tests could make, where it names one', () => {
    const unknown = ordered.filter(
      (operation) =>
        isScoped(operation) && operation.path.includes('{') && !pathOf(operation, tenants).isKnown,
    );
    expect([...new Set(unknown.map(({ path }) => path))]).toEqual([]);
  });

  it.each(named)('%s: no key, and keys that nobody has', async (_name, operation) => {
    for (const key of [null, 'flk_wrong', 'x'.repeat(5_000)]) {
      const { status, code } = await call(operation, key, { body: validBody(operation, tenants) });
      if (operation.role === 'public') expect(status).toBeLessThan(300);
      else
        expect([status, code]).toEqual([
          401,
          key === null ? 'auth.required' : expect.stringMatching(/^auth\./),
        ]);
    }
  });

  it.each(named.filter(([, { role, path }]) => role !== 'public' && path !== '/metrics'))(
    '%s: roles that do not suffice',
    async (_name, operation) => {
      for (const role of keyRoles.filter((one) => !maySuffice(one, operation.role))) {
        const { status, code } = await call(operation, tenants.keys[role], {
          body: validBody(operation, tenants),
        });
        expect([role, status, code]).toEqual([role, 403, 'auth.insufficient_role']);
      }
    },
  );

  it.each(named.filter(([, operation]) => isScoped(operation)))(
    '%s: the owner of another workspace',
    async (_name, operation) => {
      const { status, body } = await call(operation, tenants.stranger, {
        body: validBody(operation, tenants),
      });
      const namesForeign =
        pathOf(operation, tenants).isKnown ||
        ['accountId', 'accountIds'].some((name) => name in ((validBody(operation, tenants) ?? {}) as object));
      if (namesForeign) expect(status).toBe(404);
      expect(JSON.stringify(body)).not.toContain(`"workspaceId":"${tenants.first.id}"`);
    },
  );

  it.each(named.filter(([, operation]) => isScoped(operation) && !isStream(operation)))(
    '%s: an admin who does not say where, and one who names a workspace that does not exist',
    async (_name, operation) => {
      const body = validBody(operation, tenants);
      expect((await call(operation, flotilla.adminKey, { body })).code).toBe('validation.failed');
      const nowhere = await call(operation, flotilla.adminKey, { body, query: `?workspaceId=${nobody}` });
      expect(nowhere.code).toBe('workspace.not_found');
    },
  );

  it.each(withBody)('%s: bodies that are wrong', async (_name, operation) => {
    const schema = resolve(operation.body);
    const valid = validBody(operation, tenants);
    const wrong: unknown[] = ['{"', '[]', '"text"', 'null', { ...valid, surelyUnknown: 1 }];
    for (const name of schema.required ?? []) wrong.push({ ...valid, [name]: undefined });
    for (const [name, property] of Object.entries(schema.properties ?? {})) {
      const { type } = resolve(property);
      if (type !== undefined && ![type].flat().includes('object'))
        wrong.push({ ...valid, [name]: { wrong: true } });
    }
    for (const body of wrong) {
      const { status } = await call(operation, allowed(operation), { body });
      // A wrong line of a list is counted, and a list that cannot be read has its own codes.
      if (/\/(recipients|import)$/.test(operation.path)) expect([200, 400, 422]).toContain(status);
      // A body that may be left out may be null.
      else if (body === 'null') expect([200, 201, 202, 400, 404, 409]).toContain(status);
      else expect([JSON.stringify(body), status]).toEqual([JSON.stringify(body), 400]);
    }
  });

  it.each(named)('%s: who may, with its example', async (name, operation) => {
    const body = validBody(operation, tenants);
    const { status, code } = await call(operation, allowed(operation), { body });
    const [, refusal] = impossible.find(([pattern]) => pattern.test(name)) ?? [];
    expect([name, refusal === undefined ? status < 300 : code]).toEqual([name, refusal ?? true]);
  });

  it('the first workspace is gone now, with all that it had', async () => {
    expect((await flotilla.call('GET', `/workspaces/${tenants.first.id}`)).status).toBe(404);
    expect((await flotilla.call('GET', '/workspace', undefined, tenants.stranger)).status).toBe(200);
  });
});
