import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { encryptionKey } from '../encryption.js';
import { Problem } from '../errors/problem.js';

/** How far the clocks of two servers may be apart, and so how old a call may be. */
export const toleranceMs = 30_000;
/** More calls than an instance can answer in a minute. Each costs some 100 bytes of memory. */
const callsAtMost = 200_000;
const scheme = 'Flotilla-HMAC-SHA256';
const version = 'v1';

/** The audience of calls to the sandbox, of which there is one. */
export const sandboxAudience = 'sandbox';

/** What a signature speaks for. */
export interface Call {
  method: string;
  /** Whom it is for: the URL under which the instance is registered. A call that is seen on the wire opens no other instance. */
  audience: string;
  /** Path and query. */
  path: string;
}

/** The call was not made by another program of this Flotilla, or not just now; nothing was done. */
export class CallRefused extends Problem {
  constructor(reason: 'unsigned' | 'wrong_signature' | 'clock_skew' | 'replayed', detail: string) {
    super(401, `internal.${reason}`, detail);
  }
}

/** The codes of calls that are refused before anything is done. */
export const refusedCodes: ReadonlySet<string> = new Set([
  'internal.unsigned',
  'internal.wrong_signature',
  'internal.clock_skew',
  'internal.replayed',
  'internal.too_many_calls',
]);

export class TooManyCalls extends Problem {
  constructor() {
    super(
      503,
      'internal.too_many_calls',
      'More calls within a minute than can be told apart. Run more instances.',
    );
  }
}

/** The SHA-256 of a body as it is on the wire; of no bytes when there is none. */
export function hashBody(body: string | Buffer): string {
  return createHash('sha256').update(body).digest('base64url');
}

/** Signs calls to other programs with a key of its own from `INTERNAL_API_KEY`. */
export class CallSigner {
  private readonly key: Buffer;

  constructor(internalApiKey: string) {
    this.key = encryptionKey(internalApiKey, 'internal-calls');
  }

  /** The value of `Authorization` that lets this call in once, within {@link toleranceMs}. */
  sign(call: Call, body: string | Buffer, now = Date.now()): string {
    const nonce = randomBytes(12).toString('base64url');
    const bodyHash = hashBody(body);
    const signature = sign(this.key, call, String(now), nonce, bodyHash).toString('base64url');
    return `${scheme} ${version}.${now}.${nonce}.${bodyHash}.${signature}`;
  }
}

const header = new RegExp(
  `^${scheme} ${version}\\.(\\d{1,15})\\.([\\w-]{16})\\.([\\w-]{43})\\.([\\w-]{43})$`,
  'i',
);

/** Tells which calls another program of this Flotilla has made just now, and lets each of them in once. */
export class CallVerifier {
  private readonly key: Buffer;
  /**
   * Nonces in two generations: a call may be {@link toleranceMs} ahead and is too old after the same again, so one that is
   * forgotten with the older generation cannot come back.
   */
  private recent = new Set<string>();
  private older = new Set<string>();
  private turnsAt = 0;

  /** @param rememberedAtMost how many calls within a minute are told apart; more are refused */
  constructor(
    internalApiKey: string,
    private readonly rememberedAtMost = callsAtMost,
  ) {
    this.key = encryptionKey(internalApiKey, 'internal-calls');
  }

  /**
   * @param authorization the header as it came
   * @returns the hash that the body must have, see {@link hashBody}: so a stranger's body need not even be read
   * @throws CallRefused, TooManyCalls
   */
  verify(authorization: string | undefined, call: Call, now = Date.now()): string {
    const [, timestamp = '', nonce = '', bodyHash = '', signature = ''] =
      header.exec(authorization ?? '') ?? [];
    if (signature === '') {
      throw new CallRefused(
        'unsigned',
        'This is for the other programs of Flotilla only: it must be signed.',
      );
    }
    const expected = sign(this.key, call, timestamp, nonce, bodyHash);
    const given = Buffer.from(signature, 'base64url');
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
      throw new CallRefused(
        'wrong_signature',
        'The signature is not right. INTERNAL_API_KEY must be the same on every server, and calls must reach the address under which the instance is registered.',
      );
    }
    const ageMs = now - Number(timestamp);
    if (Math.abs(ageMs) > toleranceMs) {
      throw new CallRefused(
        'clock_skew',
        `The call was signed ${Math.abs(Math.round(ageMs / 1000))} s ${ageMs > 0 ? 'ago' : 'in the future'}; ${toleranceMs / 1000} s are allowed. Synchronise the clocks of the servers (NTP).`,
      );
    }
    this.remember(nonce, now);
    return bodyHash;
  }

  private remember(nonce: string, now: number): void {
    if (now >= this.turnsAt) {
      // After a pause longer than a generation what is in both of them is too old.
      this.older = now >= this.turnsAt + 2 * toleranceMs ? new Set() : this.recent;
      this.recent = new Set();
      this.turnsAt = now + 2 * toleranceMs;
    } else if (this.turnsAt - now > 2 * toleranceMs) {
      // The clock was set back: what is remembered stays a little longer.
      this.turnsAt = now + 2 * toleranceMs;
    }
    if (this.recent.has(nonce) || this.older.has(nonce)) {
      throw new CallRefused('replayed', 'This very call has been made before. Sign every call anew.');
    }
    if (this.recent.size >= this.rememberedAtMost) throw new TooManyCalls();
    this.recent.add(nonce);
  }
}

/** None of the parts can hold a line break. */
function sign(
  key: Buffer,
  { method, audience, path }: Call,
  timestamp: string,
  nonce: string,
  bodyHash: string,
): Buffer {
  return createHmac('sha256', key)
    .update([version, timestamp, nonce, method, audience, path, bodyHash].join('\n'))
    .digest();
}
