import { type Account, Flotilla, FlotillaError, type Message } from '../clients/typescript/src/index.js';
import { DemoFailed, describe } from './failure.js';
import { linkAccounts } from './linking.js';
import { planMessages, steps, summary } from './progress.js';
import { Sandbox, type LedgerLine } from './sandbox.js';
import { bold, dim, say } from './screen.js';
import { Sending } from './sending.js';

const recipientCount = 6;

export interface DemoOptions {
  /** Where the API answers, without `/api/v1`. */
  apiUrl: string;
  adminApiKey: string;
  /** Where the sandbox's control API answers. */
  sandboxUrl: string;
  messageCount: number;
  /** Where the programs write their logs, for messages to the user. */
  logDir: string;
  /** The file that has ADMIN_API_KEY, for the command that removes the workspace; null when the environment has it. */
  envFile: string | null;
}

/**
 * Shows the whole system at work: it links three sandbox accounts, sends messages of each priority, and checks with the
 * sandbox's ledger that each arrived exactly once. It uses the public API of the running system only.
 * @throws DemoFailed with the reason when something does not work
 */
export async function runDemo(options: DemoOptions): Promise<void> {
  const interrupt = new AbortController();
  const onSignal = () => interrupt.abort();
  // Once: a second Ctrl-C ends the process at once.
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  const demo = new Demo(options, interrupt.signal);
  try {
    await demo.run();
  } catch (error) {
    if (!interrupt.signal.aborted) {
      demo.sayWhatStays();
      throw error instanceof FlotillaError ? new DemoFailed(describe(error), { cause: error }) : error;
    }
    say('\nInterrupted.');
    await demo.remove();
    process.exitCode = 130;
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

class Demo {
  private readonly admin: Flotilla;
  private readonly sandbox: Sandbox;
  private workspaceId: string | null = null;

  constructor(
    private readonly options: DemoOptions,
    private readonly signal: AbortSignal,
  ) {
    this.admin = new Flotilla({ url: options.apiUrl, key: options.adminApiKey });
    this.sandbox = new Sandbox(options.sandboxUrl, signal);
  }

  async run(): Promise<void> {
    const { messageCount, logDir } = this.options;
    await this.checkThatItRuns();
    const { workspace, key } = await this.createWorkspace();
    const tenant = this.admin.with({ key });

    say(bold(`\n1. Three accounts are linked, each in a browser of its own`));
    const accounts = await linkAccounts(tenant, logDir, this.signal);

    say(bold(`\n2. They send ${messageCount} messages`));
    const recipients = await Promise.all(
      Array.from({ length: recipientCount }, () => this.sandbox.createPhone()),
    );
    const plan = planMessages(messageCount, accounts, recipients);
    const { messages, seconds } = await new Sending(tenant, plan, logDir, this.signal).run();

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

  /** Removes the workspace with its accounts, if the API still answers. */
  async remove(): Promise<void> {
    if (this.workspaceId === null) return;
    const id = this.workspaceId;
    const signal = AbortSignal.timeout(30_000);
    try {
      await this.admin.delete('/workspaces/{id}', { path: { id }, signal });
      say('The demo has removed its workspace and its accounts.');
    } catch (error) {
      say(`The demo's workspace stays, since it could not be removed: ${describe(error)} Remove it with:`);
      say(`  ${this.removal(id)}`);
    }
  }

  /** After a failure: the workspace stays, so that the user can look at it. */
  sayWhatStays(): void {
    if (this.workspaceId === null) return;
    say(`\nThe demo's workspace ${this.workspaceId} stays for you to look at. Remove it with:`);
    say(`  ${this.removal(this.workspaceId)}\n`);
  }

  /** @throws DemoFailed with the remedy in one sentence */
  private async checkThatItRuns(): Promise<void> {
    const { apiUrl } = this.options;
    // Nothing is repeated: a program that does not run now is to be started by the user.
    const once = new Flotilla({ url: apiUrl, timeoutMs: 5_000, patienceMs: 0 });
    const isOther = `What answers at ${apiUrl} is not Flotilla.`;
    try {
      const health = await once.get('/health/ready', { signal: this.signal });
      if (health?.status !== 'ok') throw new DemoFailed(isOther);
    } catch (error) {
      if (!(error instanceof FlotillaError)) throw error;
      if (error.code === 'client.unreachable') {
        throw new DemoFailed(
          `Flotilla does not run at ${apiUrl}. Start it with npm start, in another terminal, and run the demo again.`,
        );
      }
      if (error.code === 'client.bad_answer') {
        throw new DemoFailed(`${isOther} Stop it, or set PORT in .env, and start Flotilla with npm start.`);
      }
      throw error;
    }
    try {
      await this.sandbox.checkHealth();
    } catch (error) {
      if (!(error instanceof DemoFailed)) throw error;
      throw new DemoFailed(
        `The sandbox does not answer at ${this.sandbox.url}. See whether it runs with: ./flotilla ctl status. If it is switched off, set SANDBOX=true in .env and start Flotilla again.`,
      );
    }
  }

  private async createWorkspace(): Promise<{ workspace: string; key: string }> {
    const { apiUrl, envFile } = this.options;
    const { signal } = this;
    try {
      const name = `Flotilla demo ${new Date().toISOString().slice(0, 16).replace('T', ' ')}`;
      const { id } = await this.admin.post('/workspaces', { body: { name }, signal });
      this.workspaceId = id;
      const { key } = await this.admin.post('/workspaces/{id}/api-keys', {
        path: { id },
        body: { name: 'demo', role: 'owner' },
        signal,
      });
      say(`Flotilla runs at ${apiUrl}. The demo works in a new workspace, "${name}".`);
      await this.sayFaults();
      return { workspace: id, key };
    } catch (error) {
      if (!(error instanceof FlotillaError) || error.status !== 401) throw error;
      throw new DemoFailed(
        `The Flotilla at ${apiUrl} does not know the ADMIN_API_KEY of ${envFile ?? 'this environment'}: it is another one, or was started before the key was changed.`,
      );
    }
  }

  /** Tells the user about faults that are still set in the sandbox: with them, the demo looks broken. */
  private async sayFaults(): Promise<void> {
    const active = await this.sandbox.activeFaults();
    if (active.length === 0) return;
    say(`The sandbox has faults set (${active.join(', ')}). Remove them with:`);
    say(`  curl -X DELETE ${this.sandbox.url}/faults`);
  }

  /** Compares the messages with the sandbox's ledger, which does not depend on Flotilla's tables. */
  private async checkLedger(accounts: Account[], messages: Message[]): Promise<void> {
    const senders = new Set(accounts.map(({ phoneNumber }) => phoneNumber));
    const arrived = new Map<string, LedgerLine[]>();
    for await (const line of this.sandbox.ledger()) {
      if (!senders.has(line.from)) continue;
      arrived.set(line.whatsappId, [...(arrived.get(line.whatsappId) ?? []), line]);
    }
    const wrong: string[] = [];
    for (const { id, whatsappId, text, to } of messages) {
      const lines = arrived.get(whatsappId) ?? [];
      arrived.delete(whatsappId);
      if (lines.length !== 1) wrong.push(`${id} arrived ${lines.length} times`);
      else if (lines[0]!.text !== text || lines[0]!.to !== to) wrong.push(`${id} arrived altered`);
    }
    for (const [whatsappId] of arrived) wrong.push(`${whatsappId} arrived though nobody sent it`);
    if (wrong.length > 0) {
      throw new DemoFailed(`The sandbox's ledger disagrees: ${wrong.slice(0, 5).join('; ')}.`);
    }
    say(`The ledger of the simulated WhatsApp has each of the ${messages.length} exactly once.`);
  }

  private sayHowToGoOn(workspace: string, key: string, recipient: string): void {
    const { apiUrl } = this.options;
    const api = `${apiUrl}/api/v1`;
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
      ['what a recipient has received', `curl -s ${this.sandbox.url}/phones/${recipient}/inbox`],
      ['remove this workspace; its accounts stay connected until then', this.removal(workspace)],
    ];
    for (const [what, line] of examples) say(`${dim(`# ${what}`)}\n${line}`);
    say(`\nEverything else: ${apiUrl}/docs`);
  }

  private removal(workspace: string): string {
    const { apiUrl, envFile: file } = this.options;
    const key = file ? `$(grep ^ADMIN_API_KEY= ${file} | cut -d= -f2-)` : '$ADMIN_API_KEY';
    return `curl -X DELETE ${apiUrl}/api/v1/workspaces/${workspace} -H "Authorization: Bearer ${key}"`;
  }
}
