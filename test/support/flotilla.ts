import { Flotilla as FlotillaClient } from '../../clients/typescript/src/index.js';
import { eventTypes } from '../../src/events/event-types.js';
import { createStack, type Stack, type StackOptions } from '../../setup/stack.mjs';
import { eventually } from './eventually.js';
import { operationOf, undocumented } from './documented.js';

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- what a caller of the API sees: JSON of any shape
type Json = any;

/** An answer of the API: the status, and the body as JSON when it is JSON. */
export interface Answer {
  status: number;
  headers: Headers;
  body: Json;
}

export interface LedgerEntry {
  seq: number;
  /** When the simulated WhatsApp accepted it, in ISO 8601. */
  at: string;
  from: string;
  to: string;
  whatsappId: string;
  type: string;
  text: string;
  duplicate: boolean;
}

/** A whole running Flotilla, used as its users do: through HTTP, supervisorctl and the sandbox's control API. */
export class Flotilla {
  private constructor(readonly stack: Stack) {}

  static async start(options: StackOptions = {}): Promise<Flotilla> {
    const stack = await createStack(options);
    await stack.start();
    return new Flotilla(stack);
  }

  /**
   * Calls the API; a path without `/` in front of `api` is below `/api/v1`. Each answer has to be one that the document
   * knows: its status, its code, its fields.
   */
  async call(
    method: string,
    path: string,
    body?: unknown,
    key: string | null = this.adminKey,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const fullPath = `${path.startsWith('/health') || path.startsWith('/api/') ? '' : '/api/v1'}${path}`;
    const response = await fetch(`${this.stack.urls.api}${fullPath}`, {
      method,
      headers: {
        ...(key === null ? {} : { authorization: `Bearer ${key}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body),
    });
    const text = await response.text();
    const { status, headers: answered } = response;
    const type = answered.get('content-type');
    const answer = { status, headers: answered, body: type?.includes('json') ? JSON.parse(text) : text };
    const operation = operationOf(method, fullPath);
    const problem = operation && undocumented(operation, { status, type, body: answer.body });
    if (problem) throw new Error(problem);
    return answer;
  }

  get adminKey(): string {
    return this.stack.env.ADMIN_API_KEY!;
  }

  /** Calls the sandbox's control API. */
  async sandbox(method: string, path: string, body?: unknown): Promise<Json> {
    const response = await fetch(`${this.stack.urls.sandbox}${path}`, {
      method,
      headers: { 'content-type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return response.headers.get('content-type')?.includes('application/json') ? JSON.parse(text) : text;
  }

  /** What the simulated WhatsApp accepted after an entry, in order. @param since the `seq` of that entry */
  async ledger(since = 0): Promise<LedgerEntry[]> {
    const text: string = await this.sandbox('GET', `/ledger?since=${since}`);
    return text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as LedgerEntry);
  }

  /** A number that has WhatsApp. */
  async newPhone(): Promise<string> {
    return (await this.sandbox('POST', '/phones', {})).phone;
  }

  async newWorkspace(name = 'test'): Promise<Workspace> {
    const { body: workspace } = await this.call('POST', '/workspaces', { name });
    const { body: key } = await this.call('POST', `/workspaces/${workspace.id}/api-keys`, {
      name: 'owner',
      role: 'owner',
    });
    return new Workspace(this, workspace.id, key.key);
  }

  async stop(): Promise<void> {
    await this.stack.stop();
  }
}

/** One tenant with its owner's key. */
export class Workspace {
  constructor(
    readonly flotilla: Flotilla,
    readonly id: string,
    readonly key: string,
  ) {}

  /** The same API, through the typed client that products use. */
  get client(): FlotillaClient {
    return new FlotillaClient({ url: this.flotilla.stack.urls.api, key: this.key });
  }

  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer> {
    return this.flotilla.call(method, path, body, this.key, headers);
  }

  async keyFor(role: string): Promise<string> {
    return (await this.flotilla.call('POST', `/workspaces/${this.id}/api-keys`, { name: role, role })).body
      .key;
  }

  /** What the log of events tells from its beginning on, of what `isMeant`; waits until there are at least `count`. */
  async events(
    types: string[],
    count: number,
    isMeant: (data: Json) => boolean = () => true,
  ): Promise<{ type: string; data: Json }[]> {
    const found = [];
    const log = this.client.events({ types, after: '0-0', signal: AbortSignal.timeout(25_000) });
    for await (const event of log) {
      if (!(event.type in eventTypes)) throw new Error(`${event.type} is not in the list of event types`);
      if (isMeant(event.data)) found.push(event);
      if (found.length >= count) break;
    }
    return found;
  }

  /** Creates a sandbox account and asks to connect it. */
  async newAccount(connect: object = {}): Promise<string> {
    const { body: account } = await this.call('POST', '/accounts', { name: 'test', environment: 'sandbox' });
    await this.call('POST', `/accounts/${account.id}/connect`, connect);
    return account.id;
  }

  async account(id: string): Promise<Json> {
    return (await this.call('GET', `/accounts/${id}`)).body;
  }

  async untilStatus(id: string, status: string, timeoutMs?: number): Promise<Json> {
    return eventually(
      `account ${id} ${status}`,
      async () => {
        const account = await this.account(id);
        return account.status === status
          ? account
          : Promise.reject(new Error(`${account.status} (${account.statusReason})`));
      },
      timeoutMs,
    );
  }

  /** Links sandbox accounts by QR and waits until they are ready. */
  async linkedAccounts(count: number): Promise<Json[]> {
    const ids = await Promise.all(Array.from({ length: count }, () => this.newAccount()));
    return Promise.all(
      ids.map(async (id) => {
        await eventually(
          'scanned',
          async () => (await this.call('POST', `/accounts/${id}/sandbox-scan`, {})).status === 200,
        );
        return this.untilStatus(id, 'ready');
      }),
    );
  }

  send(message: object, headers?: Record<string, string>): Promise<Answer> {
    return this.call('POST', '/messages', message, headers);
  }

  /** Waits until no outgoing message of the workspace is on its way any more. */
  async untilAllSent(timeoutMs = 60_000): Promise<void> {
    await eventually(
      'everything sent',
      async () => {
        for (const status of ['queued', 'sending', 'scheduled']) {
          const { body } = await this.call('GET', `/messages?direction=outgoing&status=${status}&limit=1`);
          if (body.items.length > 0) throw new Error(`${status}: ${JSON.stringify(body.items[0])}`);
        }
        return true;
      },
      timeoutMs,
    );
  }
}
