import { setTimeout as delay } from 'node:timers/promises';
import { v7 as uuidv7 } from 'uuid';
import type { AccountResponse } from '../src/accounts/accounts.dto.js';
import type { BatchItemResponse, MessageResponse } from '../src/messages/messages.dto.js';
import type { Config } from '../src/platform/config/config.js';
import { NO_FAULTS, type Faults } from '../src/sandbox/network/faults.js';
import type { LedgerEntry } from '../src/sandbox/journal/ledger.js';
import { DemoClient, DemoFailed, Refused, Unreachable } from './client.js';
import { groups, SendingProgress, planMessages, toBody, summary, type Planned, steps } from './progress.js';
import { bold, dim, ProgressBars, say } from './screen.js';

const accountCount = 3;
const recipientCount = 6;
const batchSize = 1_000;
const linkMs = 120_000;
/** Without any progress for this long the demo gives up. */
const stallMs = 60_000;
/** Without any event for this long it asks instead of listening. */
const askMs = 5_000;
const lookMs = 100;

const linkSteps: AccountResponse['status'][] = ['created', 'starting', 'qr', 'syncing', 'ready'];
const linkEnds = new Set<AccountResponse['status']>(['conflict', 'disconnected', 'logged_out', 'failed']);

/**
 * Shows the whole system at work: three sandbox accounts are linked, send messages of each priority, and the sandbox's
 * ledger is asked whether each arrived exactly once. Everything goes through the public API of the running system.
 * @throws DemoFailed when something does not work, saying what
 */
export async function runDemo(config: Config, messageCount: number): Promise<void> {
  const interrupt = new AbortController();
  const onSignal = () => interrupt.abort();
  // Once: a second Ctrl-C ends the process whatever it is doing.
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  const demo = new Demo(config, interrupt.signal);
  try {
    await demo.run(messageCount);
  } catch (error) {
    if (!interrupt.signal.aborted) {
      demo.sayWhatStays();
      throw error;
    }
    say('\nInterrupted.');
    await demo.remove();
    process.exitCode = 130;
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

class Demo {
  private readonly api: DemoClient;
  private readonly sandbox: DemoClient;
  private readonly apiUrl: string;
  private readonly sandboxUrl: string;
  private workspaceId: string | null = null;

  constructor(
    private readonly config: Config,
    private readonly signal: AbortSignal,
  ) {
    const { host, port } = config.http;
    const reachable = { '0.0.0.0': '127.0.0.1', '::': '[::1]' }[host] ?? host;
    this.apiUrl = `http://${reachable}:${port}`;
    this.sandboxUrl = config.sandbox.controlUrl;
    this.api = new DemoClient(`${this.apiUrl}/api/v1`, signal, config.adminApiKey);
    this.sandbox = new DemoClient(this.sandboxUrl, signal);
  }

  async run(messageCount: number): Promise<void> {
    await this.checkThatItRuns();
    const { workspace, key } = await this.createWorkspace();
    const tenant = this.api.as(key);

    say(bold(`\n1. Three accounts are linked, each in a browser of its own`));
    const accounts = await this.linkAccounts(tenant);

    say(bold(`\n2. They send ${messageCount} messages`));
    const recipients = await Promise.all(Array.from({ length: recipientCount }, () => this.newPhone()));
    const plan = planMessages(messageCount, accounts, recipients);
    const { messages, seconds } = await this.send(tenant, plan);

    say(bold('\n3. What became of them'));
    say(`\n${summary(messages)}`);
    say(dim('wait: from POST until WhatsApp has the message (ack 1)\n'));
    const unread = messages.filter(({ status }) => steps[status] !== steps.read);
    if (unread.length > 0) {
      const reasons = new Set(
        unread.map(({ status, error }) => (error ? `${status}: ${error.message}` : status)),
      );
      throw new DemoFailed(
        `${unread.length} of ${messages.length} messages were not read (${[...reasons].slice(0, 3).join('; ')}).`,
      );
    }
    say(`All ${messages.length} were sent, delivered and read within ${seconds.toFixed(1)} s.`);
    await this.checkLedger(accounts, messages);

    this.sayHowToGoOn(workspace, key, recipients[0]!);
  }

  /** Removes what was made, if the API still answers: its accounts are unlinked first. */
  async remove(): Promise<void> {
    if (this.workspaceId === null) return;
    const api = new DemoClient(`${this.apiUrl}/api/v1`, AbortSignal.timeout(30_000), this.config.adminApiKey);
    const scope = `workspaceId=${this.workspaceId}`;
    try {
      const accounts: AccountResponse[] = [];
      for await (const account of api.items<AccountResponse>(`/accounts?${scope}`)) accounts.push(account);
      await Promise.all(
        accounts.map(({ id }) =>
          api.once(`/accounts/${id}?${scope}`, { method: 'DELETE' }).catch(() => null),
        ),
      );
      await api.once(`/workspaces/${this.workspaceId}`, { method: 'DELETE' });
      say('The demo has removed its workspace and its accounts.');
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      say(`The demo's workspace stays, since it could not be removed: ${reason} Remove it with:`);
      say(`  ${this.removal(this.workspaceId)}`);
    }
  }

  /** After a failure: what was made is left for the user to look at. */
  sayWhatStays(): void {
    if (this.workspaceId === null) return;
    say(`\nThe demo's workspace ${this.workspaceId} stays for you to look at. Remove it with:`);
    say(`  ${this.removal(this.workspaceId)}\n`);
  }

  /** @throws DemoFailed in one sentence, with the cure */
  private async checkThatItRuns(): Promise<void> {
    const server = new DemoClient(this.apiUrl, this.signal);
    try {
      const health = await server.once<{ status?: string }>('/health/ready', {}, 5_000);
      if (health?.status !== 'ok') throw new DemoFailed(`What answers at ${this.apiUrl} is not Flotilla.`);
    } catch (error) {
      if (error instanceof Unreachable) {
        throw new DemoFailed(
          `Flotilla does not run at ${this.apiUrl}. Start it with npm start, in another terminal, and run the demo again.`,
        );
      }
      if (error instanceof Refused && error.code === '') {
        throw new DemoFailed(
          `What answers at ${this.apiUrl} is not Flotilla. Stop it, or set PORT in .env, and start Flotilla with npm start.`,
        );
      }
      throw error;
    }
    try {
      await this.sandbox.once('/health', {}, 5_000);
    } catch (error) {
      if (!(error instanceof DemoFailed)) throw error;
      throw new DemoFailed(
        `The sandbox does not answer at ${this.sandboxUrl}. See whether it runs with: ./flotilla ctl status`,
      );
    }
  }

  private async createWorkspace(): Promise<{ workspace: string; key: string }> {
    try {
      const name = `Flotilla demo ${new Date().toISOString().slice(0, 16).replace('T', ' ')}`;
      const { id } = await this.api.call<{ id: string }>('/workspaces', { method: 'POST', body: { name } });
      this.workspaceId = id;
      const body = { name: 'demo', role: 'owner' };
      const { key } = await this.api.call<{ key: string }>(`/workspaces/${id}/api-keys`, {
        method: 'POST',
        body,
      });
      say(`Flotilla runs at ${this.apiUrl}. The demo works in a new workspace, "${name}".`);
      await this.sayFaults();
      return { workspace: id, key };
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 401) throw error;
      throw new DemoFailed(
        `The Flotilla at ${this.apiUrl} does not know the ADMIN_API_KEY of ${this.config.envFile ?? 'this environment'}: it is another one, or was started before the key was changed.`,
      );
    }
  }

  /** Faults that somebody left in the sandbox explain a demo that looks broken. */
  private async sayFaults(): Promise<void> {
    const faults = await this.sandbox.call<Faults>('/faults');
    const active = Object.entries(NO_FAULTS)
      .filter(([name, healthy]) => faults[name as keyof Faults] !== healthy)
      .map(([name]) => `${name} ${String(faults[name as keyof Faults])}`);
    if (active.length === 0) return;
    say(`The sandbox has faults set (${active.join(', ')}). Remove them with:`);
    say(`  curl -X DELETE ${this.sandboxUrl}/faults`);
  }

  private async newPhone(): Promise<string> {
    const { phone } = await this.sandbox.call<{ phone: string }>('/phones', { method: 'POST', body: {} });
    return phone;
  }

  private async linkAccounts(tenant: DemoClient): Promise<AccountResponse[]> {
    const names = Array.from({ length: accountCount }, (_item, index) => `Demo ${index + 1}`);
    const bars = new ProgressBars(names);
    try {
      return await Promise.all(names.map((name) => this.linkAccount(tenant, name, bars)));
    } finally {
      bars.stop();
    }
  }

  /** Creates an account, connects it, scans its QR code with a simulated phone, and waits until it is ready. */
  private async linkAccount(tenant: DemoClient, name: string, bars: ProgressBars): Promise<AccountResponse> {
    const body = { name, environment: 'sandbox' };
    const { id } = await tenant.call<AccountResponse>('/accounts', { method: 'POST', body });
    await tenant.call(`/accounts/${id}/connect`, { method: 'POST', body: {} });
    const deadline = Date.now() + linkMs;
    let scan: 'to do' | 'done' | Refused = 'to do';
    for (;;) {
      const account = await tenant.call<AccountResponse>(`/accounts/${id}`);
      const { status, statusReason } = account;
      const number = account.phoneNumber ? ` as +${account.phoneNumber}` : '';
      bars.update(name, {
        done: Math.max(0, linkSteps.indexOf(status)),
        total: linkSteps.length - 1,
        note: status === 'ready' ? `ready${number}` : `${status}${statusReason ? ` (${statusReason})` : ''}`,
      });
      if (status === 'ready') return account;
      if (linkEnds.has(status) || Date.now() >= deadline) {
        const reasons = [statusReason, scan instanceof Refused && scan.message].filter(Boolean).join('; ');
        const log = account.instanceId ? ` See ${this.config.varDir}/log/${logOf(account.instanceId)}.` : '';
        throw new DemoFailed(
          `The account ${name} did not become ready: it is ${status}${reasons ? ` (${reasons})` : ''}.${log}`,
        );
      }
      if (status === 'qr' && scan !== 'done') scan = await this.scan(tenant, id);
      await delay(lookMs, undefined, { signal: this.signal });
    }
  }

  /** Lets a simulated phone scan the QR code; a code that has just been replaced is scanned at the next look. */
  private async scan(tenant: DemoClient, accountId: string): Promise<'done' | Refused> {
    try {
      await tenant.call(`/accounts/${accountId}/sandbox-scan`, { method: 'POST', body: {} });
      return 'done';
    } catch (error) {
      if (error instanceof Refused && error.status === 409) return error;
      throw error;
    }
  }

  /** Posts everything and follows it until nothing is on its way any more. */
  private async send(
    tenant: DemoClient,
    plan: Planned[],
  ): Promise<{ messages: MessageResponse[]; seconds: number }> {
    const progress = new SendingProgress(plan);
    const finished = new AbortController();
    const bars = new ProgressBars(groups);
    const started = performance.now();
    const following = tenant.follow(
      ['message.*'],
      AbortSignal.any([this.signal, finished.signal]),
      ({ data }) => progress.see(data as unknown as MessageResponse),
    );
    try {
      await Promise.all([this.post(tenant, plan, progress), this.watch(tenant, progress, bars)]);
      const seconds = (performance.now() - started) / 1000;
      await this.ask(tenant, progress);
      return { messages: progress.messages, seconds };
    } finally {
      bars.stop();
      finished.abort();
      await following;
    }
  }

  /** The bulk first: what is more urgent is to overtake it. */
  private async post(tenant: DemoClient, plan: Planned[], progress: SendingProgress): Promise<void> {
    const bulk = plan.filter(({ group }) => group === 'bulk (normal)');
    for (let start = 0; start < bulk.length; start += batchSize) {
      const messages = bulk.slice(start, start + batchSize).map(toBody);
      const { items } = await tenant.call<{ items: BatchItemResponse[] }>('/messages/batch', {
        method: 'POST',
        body: { messages },
      });
      for (const { message, error } of items) {
        if (!message)
          throw new DemoFailed(`A message of the bulk was refused: ${error?.detail ?? 'no reason'}`);
        progress.see(message);
      }
    }
    const singles = plan.filter(({ group }) => group !== 'bulk (normal)');
    const byAccount = new Map<string, Planned[]>();
    for (const single of singles) {
      byAccount.set(single.accountId, [...(byAccount.get(single.accountId) ?? []), single]);
    }
    await Promise.all(
      [...byAccount.values()].map(async (ofAccount) => {
        for (const single of ofAccount) {
          progress.see(
            await tenant.call<MessageResponse>('/messages', {
              method: 'POST',
              body: toBody(single),
              idempotencyKey: uuidv7(),
            }),
          );
        }
      }),
    );
  }

  private async watch(tenant: DemoClient, progress: SendingProgress, bars: ProgressBars): Promise<void> {
    let asked = Date.now();
    for (;;) {
      for (const group of groups) {
        const { total, sent, delivered, read } = progress.of(group);
        const note = `${read} of ${total} read, ${delivered} delivered, ${sent} sent`;
        bars.update(group, { done: read, total, note });
      }
      if (progress.isComplete) return;
      const quietMs = Date.now() - progress.changedAt;
      if (quietMs > stallMs) {
        throw new DemoFailed(
          `Nothing has moved for ${stallMs / 1000} s, with ${progress.open} messages still on their way. See ./flotilla ctl status and the logs in ${this.config.varDir}/log.`,
        );
      }
      if (quietMs > askMs && Date.now() - asked > askMs) {
        await this.ask(tenant, progress);
        asked = Date.now();
      }
      await delay(lookMs, undefined, { signal: this.signal });
    }
  }

  private async ask(tenant: DemoClient, progress: SendingProgress): Promise<void> {
    for await (const message of tenant.items<MessageResponse>('/messages?direction=outgoing')) {
      progress.see(message);
    }
  }

  /** Believes the sandbox's ledger, not Flotilla's tables. */
  private async checkLedger(accounts: AccountResponse[], messages: MessageResponse[]): Promise<void> {
    const senders = new Set(accounts.map(({ phoneNumber }) => phoneNumber));
    const arrived = new Map<string, LedgerEntry[]>();
    for await (const line of this.sandbox.lines('/ledger')) {
      const entry = JSON.parse(line) as LedgerEntry;
      if (!senders.has(entry.from)) continue;
      arrived.set(entry.whatsappId, [...(arrived.get(entry.whatsappId) ?? []), entry]);
    }
    const wrong: string[] = [];
    for (const { id, whatsappId, text, to } of messages) {
      const entries = arrived.get(whatsappId) ?? [];
      arrived.delete(whatsappId);
      if (entries.length !== 1) wrong.push(`${id} arrived ${entries.length} times`);
      else if (entries[0]!.text !== text || entries[0]!.to !== to) wrong.push(`${id} arrived altered`);
    }
    for (const [whatsappId] of arrived) wrong.push(`${whatsappId} arrived though nobody sent it`);
    if (wrong.length > 0) {
      throw new DemoFailed(`The sandbox's ledger disagrees: ${wrong.slice(0, 5).join('; ')}.`);
    }
    say(`The ledger of the simulated WhatsApp has each of the ${messages.length} exactly once.`);
  }

  private sayHowToGoOn(workspace: string, key: string, recipient: string): void {
    const api = `${this.apiUrl}/api/v1`;
    const auth = `-H 'Authorization: Bearer ${key}'`;
    const body = JSON.stringify({
      to: `+${recipient}`,
      text: 'Hello from the command line',
      priority: 'urgent',
    });
    say(bold('\nThe same in the REST API, to be typed as it stands:\n'));
    const examples = [
      ['the accounts', `curl -s ${api}/accounts ${auth}`],
      ['the latest five messages', `curl -s '${api}/messages?limit=5' ${auth}`],
      [
        'one more, answered when it is delivered',
        `curl -s '${api}/messages?wait=delivered' ${auth} -H 'Content-Type: application/json' -d '${body}'`,
      ],
      [
        'every event from the first on (Ctrl-C ends it)',
        `curl -sN ${api}/events ${auth} -H 'Last-Event-ID: 0-0'`,
      ],
      ['what a recipient has received', `curl -s ${this.sandboxUrl}/phones/${recipient}/inbox`],
      ['remove this workspace; its accounts stay connected until then', this.removal(workspace)],
    ];
    for (const [what, line] of examples) say(`${dim(`# ${what}`)}\n${line}`);
    say(`\nEverything else: ${this.apiUrl}/docs`);
  }

  private removal(workspace: string): string {
    const file = this.config.envFile;
    const key = file ? `$(grep ^ADMIN_API_KEY= ${file} | cut -d= -f2-)` : '$ADMIN_API_KEY';
    return `curl -X DELETE ${this.apiUrl}/api/v1/workspaces/${workspace} -H "Authorization: Bearer ${key}"`;
  }
}

/** `vm.instance_00` writes `instance_00.log`. */
function logOf(instanceId: string): string {
  return `${instanceId.slice(instanceId.lastIndexOf('.') + 1)}.log`;
}
