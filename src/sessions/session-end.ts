import { SandboxOff, SandboxUnreachable } from '../accounts/sandbox-client.js';
import type { CloseReason } from '../whatsapp/session-events.js';
import { SnapshotUnusable } from './session-snapshots.js';

/** What the tenant of an account gets to know of an end. Nothing here comes from a browser, a page or this machine. */
const sentences = {
  logged_out: 'unlinked from the phone',
  logout: 'logged out by request',
  conflict: 'another browser uses this session',
  unpaired: 'unpaired: WhatsApp no longer knows this linked device',
  crashed: 'crashed: the browser or its page ended unexpectedly',
  not_started: 'not_started: the browser or its page did not start',
  unreachable:
    'unreachable: the browser did not reach WhatsApp. If the account has a proxy, check that the proxy works',
  proxy_unreachable: 'proxy_unreachable: the proxy of this account gives no connection. Check proxyUrl.',
  sandbox_off: 'sandbox_off: the sandbox is switched off on this server',
  sandbox_unreachable: 'sandbox_unreachable: the sandbox does not answer',
  snapshot_unusable: 'snapshot_unusable: the saved session cannot be restored. The log says why',
  launch_timeout: 'launch_timeout: the browser did not start in time',
  load_timeout: 'load_timeout: WhatsApp Web showed no QR code and no linked account in time',
  sync_timeout: 'sync_timeout: WhatsApp Web is linked, but did not get ready in time',
  other_number:
    'other_number: a phone with another number linked this account, and was unlinked again. Link the phone of this account, or connect with {"allowNumberChange": true}',
  not_unlinked:
    'other_number: a phone with another number linked this account, and WhatsApp has not confirmed yet that it is unlinked',
  number_changed:
    'other_number: the phone of this account has another number now. To go on with it, connect with {"allowNumberChange": true}',
  version_refused: 'version_refused: WhatsApp no longer accepts this version of WhatsApp Web',
} satisfies Record<CloseReason, string> & Record<string, string>;

/** Why a session ended, if its account has a status for it. */
export type ReportedReason = keyof typeof sentences;

/** Why a session ended. */
export interface SessionEnd {
  reason: ReportedReason | 'stopped' | 'qr_expired' | 'restart';
  /** For the log: it may hold texts of the browser. Of a restart it is the `statusReason`. */
  detail: string;
}

/**
 * The `statusReason` of an account whose session has ended.
 * @param version the version of WhatsApp Web that the policy gave to the session; null if WhatsApp chose the page
 */
export function statusReasonOf(reason: ReportedReason, version: string | null = null): string {
  const page = version ? ` (the page of ${version}, which the policy of WhatsApp Web versions gives)` : '';
  return sentences[reason] + page;
}

/** The end of a session that did not start. */
export function failedStart(error: unknown): SessionEnd {
  const detail = error instanceof Error ? error.message : String(error);
  if (error instanceof SandboxOff) return { reason: 'sandbox_off', detail };
  if (error instanceof SandboxUnreachable) return { reason: 'sandbox_unreachable', detail };
  if (error instanceof SnapshotUnusable) return { reason: 'snapshot_unusable', detail };
  return { reason: /\bnet::ERR_/.test(detail) ? 'unreachable' : 'not_started', detail };
}
