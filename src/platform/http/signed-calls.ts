import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { encryptionKey } from '../encryption.js';
import { Problem } from '../errors/problem.js';

/** How far apart the clocks of two servers may be. So a call may be this old. */
export const toleranceMs = 30_000;
/** More calls than an instance can answer in a minute. Each remembered call needs about 100 bytes. */
const maxRememberedCalls = 200_000;
const scheme = 'Flotilla-HMAC-SHA256';
const version = 'v1';

/** The audience of calls to the sandbox. A fleet has one sandbox, so the name is constant. */
export const sandboxAudience = 'sandbox';

/** The parts of a call that its signature covers, besides the body. */
export interface Call {
  method: string;
  /** The receiver: the URL under which the instance is registered. So an intercepted call is useless at another instance. */
  audience: string;
  /** The path and the query. */
  path: string;
}

/** The call is not from another program of this fleet, or it is not recent. Nothing was done. */
export class CallRefused extends Problem {
  constructor(reason: 'unsigned' | 'wrong_signature' | 'clock_skew' | 'replayed', detail: string) {
    super(401, `internal.${reason}`, detail);
  }
}

/** The call has no signature. */
export class CallUnsigned extends CallRefused {
  constructor() {
    super('unsigned', 'Only the programs of Flotilla may call this. Sign the call with INTERNAL_API_KEY.');
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
    super(503, 'internal.too_many_calls', 'There are too many calls within a minute. Run more instances.');
  }
}

/** The SHA-256 of a body as it is on the wire. Without a body, it is the hash of no bytes. */
export function hashBody(body: string | Buffer): string {
  return createHash('sha256').update(body).digest('base64url');
}

/** Signs calls to other programs, with a key that is derived from `INTERNAL_API_KEY`. */
export class CallSigner {
  private readonly key: Buffer;

  constructor(internalApiKey: string) {
    this.key = encryptionKey(internalApiKey, 'internal-calls');
  }

  /** The value of `Authorization` for this call. It is valid once, within {@link toleranceMs}. */
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

/** Verifies that a call comes from another program of this fleet and is recent. It accepts each call once. */
export class CallVerifier {
  private readonly key: Buffer;
  /**
   * Nonces in two generations. A call may be signed {@link toleranceMs} in the future and becomes too old {@link toleranceMs}
   * after its time. So a call whose nonce is forgotten with the older generation is too old to be replayed.
   */
  private recent = new Set<string>();
  private older = new Set<string>();
  private rotatesAt = 0;

  /** @param maxRemembered how many calls the verifier remembers within a minute. It refuses more calls. */
  constructor(
    internalApiKey: string,
    private readonly maxRemembered = maxRememberedCalls,
  ) {
    this.key = encryptionKey(internalApiKey, 'internal-calls');
  }

  /**
   * @param authorization the header of the request
   * @returns the hash that the body must have, see {@link hashBody}. So the body of a stranger is never read.
   * @throws CallRefused, TooManyCalls
   */
  verify(authorization: string | undefined, call: Call, now = Date.now()): string {
    const [, timestamp = '', nonce = '', bodyHash = '', signature = ''] =
      header.exec(authorization ?? '') ?? [];
    if (signature === '') {
      throw new CallUnsigned();
    }
    const expected = sign(this.key, call, timestamp, nonce, bodyHash);
    const given = Buffer.from(signature, 'base64url');
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
      throw new CallRefused(
        'wrong_signature',
        'The signature is wrong. INTERNAL_API_KEY must be the same on every server, and the call must use the address under which the instance is registered.',
      );
    }
    const ageMs = now - Number(timestamp);
    if (Math.abs(ageMs) > toleranceMs) {
      throw new CallRefused(
        'clock_skew',
        `The call was signed ${Math.abs(Math.round(ageMs / 1000))} s ${ageMs > 0 ? 'ago' : 'in the future'}; at most ${toleranceMs / 1000} s are allowed. Synchronise the clocks of the servers (NTP).`,
      );
    }
    this.remember(nonce, now);
    return bodyHash;
  }

  private remember(nonce: string, now: number): void {
    if (now >= this.rotatesAt) {
      // After a pause of more than one generation, the calls of both generations are too old.
      this.older = now >= this.rotatesAt + 2 * toleranceMs ? new Set() : this.recent;
      this.recent = new Set();
      this.rotatesAt = now + 2 * toleranceMs;
    } else if (this.rotatesAt - now > 2 * toleranceMs) {
      // The clock was set back: the present generation stays a little longer.
      this.rotatesAt = now + 2 * toleranceMs;
    }
    if (this.recent.has(nonce) || this.older.has(nonce)) {
      throw new CallRefused('replayed', 'This call was already made. Sign every call separately.');
    }
    if (this.recent.size >= this.maxRemembered) throw new TooManyCalls();
    this.recent.add(nonce);
  }
}

/** No part can contain a line break, so the joined text is unambiguous. */
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
