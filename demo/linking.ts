import { setTimeout as delay } from 'node:timers/promises';
import { type Account, type Flotilla, FlotillaError } from '../clients/typescript/src/index.js';
import { DemoFailed } from './failure.js';
import { ProgressBars } from './screen.js';

const accountCount = 3;
const linkMs = 120_000;
const pollMs = 100;

const steps: Account['status'][] = ['created', 'starting', 'qr', 'syncing', 'ready'];
const failures = new Set<Account['status']>(['conflict', 'disconnected', 'logged_out', 'failed']);

/**
 * Creates the accounts and links each with a simulated phone of its own.
 * @param logDir for the message when an account does not become ready
 */
export async function linkAccounts(
  tenant: Flotilla,
  logDir: string,
  signal: AbortSignal,
): Promise<Account[]> {
  const names = Array.from({ length: accountCount }, (_item, index) => `Demo ${index + 1}`);
  const bars = new ProgressBars(names);
  try {
    return await Promise.all(names.map((name) => linkAccount(tenant, name, bars, logDir, signal)));
  } finally {
    bars.stop();
  }
}

/** Creates an account, connects it, scans its QR code, and waits until it is ready. */
async function linkAccount(
  tenant: Flotilla,
  name: string,
  bars: ProgressBars,
  logDir: string,
  signal: AbortSignal,
): Promise<Account> {
  const { id } = await tenant.post('/accounts', { body: { name, environment: 'sandbox' }, signal });
  await tenant.post('/accounts/{id}/connect', { path: { id }, body: {}, signal });
  const deadline = Date.now() + linkMs;
  let scan: 'to do' | 'done' | FlotillaError = 'to do';
  for (;;) {
    const account = await tenant.get('/accounts/{id}', { path: { id }, signal });
    const { status, statusReason, phoneNumber, instanceId } = account;
    const number = phoneNumber ? ` as +${phoneNumber}` : '';
    bars.update(name, {
      done: Math.max(0, steps.indexOf(status)),
      total: steps.length - 1,
      note: status === 'ready' ? `ready${number}` : `${status}${statusReason ? ` (${statusReason})` : ''}`,
    });
    if (status === 'ready') return account;
    if (failures.has(status) || Date.now() >= deadline) {
      const reasons = [statusReason, scan instanceof FlotillaError && scan.message]
        .filter(Boolean)
        .join('; ');
      const log = instanceId ? ` See ${logDir}/${logOf(instanceId)}.` : '';
      throw new DemoFailed(
        `The account ${name} did not become ready: it is ${status}${reasons ? ` (${reasons})` : ''}.${log}`,
      );
    }
    if (status === 'qr' && scan !== 'done') scan = await scanCode(tenant, id, signal);
    await delay(pollMs, undefined, { signal });
  }
}

/** Scans the QR code with a simulated phone. The code may just have been replaced: then the error is returned. */
async function scanCode(tenant: Flotilla, id: string, signal: AbortSignal): Promise<'done' | FlotillaError> {
  try {
    await tenant.post('/accounts/{id}/sandbox-scan', { path: { id }, body: {}, signal });
    return 'done';
  } catch (error) {
    if (error instanceof FlotillaError && error.status === 409) return error;
    throw error;
  }
}

/** `vm.instance_00` writes `instance_00.log`. */
function logOf(instanceId: string): string {
  return `${instanceId.slice(instanceId.lastIndexOf('.') + 1)}.log`;
}
