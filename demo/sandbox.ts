import { DemoFailed } from './failure.js';

/** The fields of a ledger line that the demo checks. */
export interface LedgerLine {
  from: string;
  to: string;
  whatsappId: string;
  text: string;
}

type Faults = Record<string, number | boolean | string | null>;

/** The faults of a sandbox without faults. */
export const healthyFaults: Faults = {
  ackDelayMs: 0,
  receiptDelayMs: 0,
  dropAckRate: 0,
  refuseRate: 0,
  disconnectRate: 0,
  syncDelayMs: 0,
  earlySync: false,
  dialog: null,
  deliverAcks: true,
  readAcks: true,
  offline: false,
  silent: false,
  doubleIncoming: false,
  reloadBeforeSendRate: 0,
  reloadAfterSendRate: 0,
  uploadFailRate: 0,
  downloadFailRate: 0,
  uploadDelayMs: 0,
  resumesSends: false,
  sendFailRate: 0,
  groupRefusal: null,
  inviteLifetimeMs: 3 * 24 * 3_600_000,
  checkRefusal: null,
  hiddenChats: false,
  messagesInMemory: 2000,
  editWindowMs: 900_000,
  revokeWindowMs: 216_000_000,
  newChatNotice: true,
  revokedNamesOldKey: true,
  oldestVersion: null,
  updateLoop: false,
  qrLifetimeMs: 10_000,
};

const answerMs = 15_000;
const ledgerMs = 60_000;

/** Calls the sandbox's control API, as any program outside Flotilla does. */
export class Sandbox {
  constructor(
    readonly url: string,
    private readonly signal: AbortSignal,
  ) {}

  /** @throws DemoFailed when the sandbox does not answer */
  async checkHealth(): Promise<void> {
    await this.open('/health', {}, 5_000);
  }

  /** The faults that are set, each as its name and value. */
  async activeFaults(): Promise<string[]> {
    const faults = (await (await this.open('/faults')).json()) as Faults;
    return Object.entries(healthyFaults)
      .filter(([name, healthy]) => faults[name] !== healthy)
      .map(([name]) => `${name} ${String(faults[name])}`);
  }

  /** Creates a simulated phone and returns its number. */
  async createPhone(): Promise<string> {
    const response = await this.open('/phones', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    });
    const { phone } = (await response.json()) as { phone: string };
    return phone;
  }

  /** All lines of the ledger, as they arrive. */
  async *ledger(): AsyncGenerator<LedgerLine> {
    const response = await this.open('/ledger', {}, ledgerMs);
    const decoder = new TextDecoder();
    let rest = '';
    for await (const chunk of response.body ?? []) {
      rest += decoder.decode(chunk as Uint8Array, { stream: true });
      const lines = rest.split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) yield JSON.parse(line) as LedgerLine;
    }
  }

  private async open(path: string, init: RequestInit = {}, timeoutMs = answerMs): Promise<Response> {
    const signal = AbortSignal.any([this.signal, AbortSignal.timeout(timeoutMs)]);
    let response: Response;
    try {
      response = await fetch(`${this.url}${path}`, { ...init, signal });
    } catch (error) {
      this.signal.throwIfAborted();
      const reason = (error as { cause?: { code?: string } }).cause?.code ?? String(error);
      throw new DemoFailed(`${this.url} does not answer (${reason}).`);
    }
    if (response.ok) return response;
    throw new DemoFailed(`The sandbox refused ${path}: ${await response.text()} (${response.status})`);
  }
}
