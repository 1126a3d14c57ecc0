import { foreignText } from '../platform/errors/foreign-text.js';

/** Evidence that is older than this says nothing about the page of today. */
const windowMs = 10 * 60_000;
/** With this many different messages that fail with new errors, the page counts as broken. */
const tripsAt = 3;
/** How many suspected messages of an account are remembered. */
const maxSuspects = 10;
/**
 * After this many attempts, about 8 s, a message that WhatsApp Web cannot send becomes `failed`. A short break of the
 * connection is over by then. More attempts would only hold back the later messages of its priority.
 */
export const maxNotSentTries = 5;
/** How much evidence of all accounts is kept. */
const maxEvidence = 200;
/** How much of an error is looked at. */
const maxErrorLength = 1_000;
/** The wait before a distrusted page is loaded again: it doubles each time that the page fails again. */
const firstReloadMs = 30_000;

/**
 * Errors of the page that are known and handled: they come from the network, the number or the file, not from a change of WhatsApp
 * Web. They never count.
 */
const knownErrors = [
  /ServerStatusCodeError|throttl|overlimit/i,
  /No LID for user|findChat|findOrCreateLatestChat|createChat|WhatsApp gave no chat|has no chat|wid error/,
  /media-fault|upload|download|decode|The page did not receive the file|Invalid media type/i,
  /no answer|not answer|too many|timeout|timed out|network|offline|disconnect|connection|socket|failed to fetch|AbortError|MaxRetries|QuotaExceeded/i,
  /Contact is blocked|DuplicateMessageError/,
];

/** The message that failed, as far as the breaker looks at it. */
export interface FailedMessage {
  id: string;
  accountId: string;
  attempt: number;
  media: { sha256: string | null } | null;
}

/**
 * - `known`: the error is known, and says nothing about the page.
 * - `message`: the error is new, and may be the message's own fault.
 * - `aside`: let the lane's next message show whether the page is broken.
 * - `page`: the page is broken. Nothing more may be sent until it is loaded again.
 */
export type Verdict =
  { at: 'known' | 'message' | 'aside' } | { at: 'page'; reason: string; reloadAfterMs: number };

interface Evidence {
  accountId: string;
  text: string;
  /** The message; or its file, because many messages with the same broken file are one case. */
  subject: string;
  at: number;
}

interface Suspect {
  subject: string;
  failures: number;
  /** How often it stepped aside since the page was last loaded because of the breaker. */
  asides: number;
}

interface AccountState {
  /** The messages that failed with a new error since the last send that worked. */
  suspects: Map<string, Suspect>;
  /** How often the page was distrusted since the last send that worked. */
  trips: number;
}

/**
 * A circuit breaker for changes of WhatsApp Web that the page contract does not foresee: several different messages fail with
 * errors that Flotilla does not know, or acks come for messages that the page does not find. A single bad message never opens
 * it. After the page was loaded again it is half open: the first send that works closes it, and the first new message that
 * fails opens it again.
 */
export class WebBreaker {
  private readonly accounts = new Map<string, AccountState>();
  private evidence: Evidence[] = [];

  constructor(private readonly clock: () => number = () => performance.now()) {}

  /** A message left, and the page knows it: the page works. */
  noteSuccess(accountId: string): void {
    if (!this.accounts.delete(accountId)) return;
    this.evidence = this.evidence.filter((item) => item.accountId !== accountId);
  }

  /** WhatsApp has acknowledged a message that the page does not find. */
  noteUnfound(message: FailedMessage): Verdict {
    return this.note(message, 'acks come for messages that the page does not find');
  }

  /** An attempt sent nothing. @param error as the page says it */
  noteFailure(message: FailedMessage, error: string): Verdict {
    return isKnown(error) ? { at: 'known' } : this.note(message, textOf(error));
  }

  private note({ id, accountId, attempt, media }: FailedMessage, text: string): Verdict {
    const now = this.clock();
    const state = this.accounts.get(accountId) ?? { suspects: new Map<string, Suspect>(), trips: 0 };
    this.accounts.set(accountId, state);
    const known = state.suspects.get(id);
    const suspect = known ?? { subject: media?.sha256 ?? id, failures: 0, asides: 0 };
    suspect.failures += 1;
    state.suspects.set(id, suspect);
    if (state.suspects.size > maxSuspects) state.suspects.delete(state.suspects.keys().next().value!);
    this.evidence = [...this.evidence, { accountId, text, subject: suspect.subject, at: now }]
      .filter(({ at }) => at > now - windowMs)
      .slice(-maxEvidence);

    const subjects = new Set([...state.suspects.values()].map((other) => other.subject)).size;
    // The suspects go first after a new load of the page, and each steps aside once. Then one new message decides.
    const isHalfOpen = state.trips > 0;
    const hasReturned = suspect.asides > 0 && subjects > 1;
    // After an uncertain attempt a message cannot step aside: it holds its lane.
    const isStuck = attempt > 1 && suspect.failures > 1;
    const isBroken = isHalfOpen
      ? !known || attempt > 1 || suspect.asides > 0
      : subjects >= tripsAt || hasReturned || isStuck || this.isSpread(text);
    if (isBroken) {
      state.trips += 1;
      for (const other of state.suspects.values()) other.asides = 0;
      return { at: 'page', reason: text, reloadAfterMs: firstReloadMs * 2 ** Math.min(state.trips - 1, 10) };
    }
    // The first suspect gets all its tries before it steps aside: the reason may pass.
    const isPatient = !isHalfOpen && subjects === 1 && suspect.failures < maxNotSentTries;
    if (isPatient || (subjects === 1 && !isHalfOpen && suspect.asides > 0)) return { at: 'message' };
    suspect.asides += 1;
    return { at: 'aside' };
  }

  /** Whether the same error comes from several messages of several accounts. */
  private isSpread(text: string): boolean {
    const same = this.evidence.filter((item) => item.text === text);
    const accounts = new Set(same.map(({ accountId }) => accountId));
    return accounts.size > 1 && new Set(same.map(({ subject }) => subject)).size >= tripsAt;
  }
}

function isKnown(error: string): boolean {
  // The page calls something that is not there. Only the browser's own fetch fails with such an error for another reason.
  if (/^(Type|Reference)Error: (?!failed to fetch)/i.test(error)) return false;
  return knownErrors.some((known) => known.test(error));
}

/** The error without what differs from message to message. */
function textOf(error: string): string {
  // The reason that an account shows.
  return foreignText(error, maxErrorLength)
    .replace(/\S*@(c\.us|g\.us|lid|s\.whatsapp\.net)\S*|\b[\dA-F]{6,}\b|\d+/gi, '…')
    .slice(0, 200);
}
