import { describe, expect, it } from 'vitest';
import {
  type Call,
  CallSigner,
  CallVerifier,
  hashBody,
  toleranceMs,
} from '../../src/platform/http/signed-calls.js';

const secret = 'fli_a-secret-of-these-tests';
const call: Call = {
  method: 'POST',
  audience: 'http://10.0.0.1:3001',
  path: '/internal/accounts/1/lane?x=1',
};
const body = '{"epoch":3}';
const now = Date.parse('2026-01-01T00:00:00Z');

const signer = new CallSigner(secret);
const code = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    return (error as { code: string }).code;
  }
  return 'accepted';
};

describe('a signed call', () => {
  it('is accepted once, and contains the hash of its body', () => {
    const verifier = new CallVerifier(secret);
    const header = signer.sign(call, body, now);
    expect(verifier.verify(header, call, now)).toBe(hashBody(body));
    expect(code(() => verifier.verify(header, call, now + 1))).toBe('internal.replayed');
    expect(code(() => verifier.verify(signer.sign(call, body, now), call, now))).toBe('accepted');
  });

  it.each([
    ['another method', { method: 'GET' }],
    ['another path', { path: '/internal/accounts/2/lane?x=1' }],
    ['another query', { path: '/internal/accounts/1/lane?x=2' }],
    ['another instance', { audience: 'http://10.0.0.1:3002' }],
  ])('opens nothing else: %s', (_what, other) => {
    const verifier = new CallVerifier(secret);
    const header = signer.sign(call, body, now);
    expect(code(() => verifier.verify(header, { ...call, ...other }, now))).toBe('internal.wrong_signature');
    expect(code(() => verifier.verify(header, call, now))).toBe('accepted');
  });

  it('is refused if a single character has changed', () => {
    const verifier = new CallVerifier(secret);
    const header = signer.sign(call, body, now);
    const start = header.indexOf('v1.') + 3;
    for (let at = start; at < header.length; at += 1) {
      const letter = header[at] === '1' ? '2' : '1';
      const changed = header.slice(0, at) + letter + header.slice(at + 1);
      expect(
        code(() => verifier.verify(changed, call, now)),
        `at ${at}`,
      ).toMatch(
        // The last base64url character of 32 bytes has unused bits.
        at === header.length - 1
          ? /^(internal\.wrong_signature|accepted|internal\.replayed)$/
          : /^internal\.(wrong_signature|unsigned)$/,
      );
    }
  });

  it.each([
    ['nothing', undefined],
    ['the secret itself', `Bearer ${secret}`],
    ['an empty signature', 'Flotilla-HMAC-SHA256 v1....'],
    ['another version', signer.sign(call, body, now).replace(' v1.', ' v2.')],
  ])('is not %s', (_what, header) => {
    expect(code(() => new CallVerifier(secret).verify(header, call, now))).toBe('internal.unsigned');
  });

  it('is refused with another secret', () => {
    const other = new CallSigner(`${secret}x`).sign(call, body, now);
    expect(code(() => new CallVerifier(secret).verify(other, call, now))).toBe('internal.wrong_signature');
  });

  it('may be 30 seconds off; beyond that, the error names the difference', () => {
    const verifier = new CallVerifier(secret);
    for (const off of [-toleranceMs, toleranceMs]) {
      expect(code(() => verifier.verify(signer.sign(call, body, now + off), call, now))).toBe('accepted');
    }
    const late = signer.sign(call, body, now - 45_000);
    expect(() => verifier.verify(late, call, now)).toThrow(/signed 45 s ago.*Synchronise the clocks/);
    const early = signer.sign(call, body, now + toleranceMs + 1_000);
    expect(() => verifier.verify(early, call, now)).toThrow(/31 s in the future/);
  });

  it('cannot be replayed at any time, also after pauses and after a clock is set back', () => {
    const verifier = new CallVerifier(secret);
    const headers: { header: string; at: number }[] = [];
    let clock = now;
    for (const step of [0, 1_000, 29_000, 31_000, 59_000, 61_000, 200_000, -90_000, 5_000, 60_000, 121_000]) {
      clock += step;
      for (const ahead of [-toleranceMs, 0, toleranceMs]) {
        const header = signer.sign(call, body, clock + ahead);
        expect(code(() => verifier.verify(header, call, clock))).toBe('accepted');
        headers.push({ header, at: clock });
      }
      for (const { header } of headers) {
        expect(code(() => verifier.verify(header, call, clock))).toMatch(/^internal\.(replayed|clock_skew)$/);
      }
    }
  });

  it('is refused above the limit of remembered calls', () => {
    const verifier = new CallVerifier(secret, 1_000);
    let accepted = 0;
    let refusal = 'accepted';
    while (refusal === 'accepted' && accepted < 2_000) {
      const header = signer.sign(call, '', now);
      refusal = code(() => verifier.verify(header, call, now));
      if (refusal === 'accepted') accepted += 1;
    }
    expect([refusal, accepted]).toEqual(['internal.too_many_calls', 1_000]);
    const later = now + 2 * toleranceMs;
    expect(code(() => verifier.verify(signer.sign(call, '', later), call, later))).toBe('accepted');
  });

  it('costs less than a tenth of a millisecond', () => {
    const verifier = new CallVerifier(secret);
    const once = () => verifier.verify(signer.sign(call, body, now), call, now);
    for (let run = 0; run < 2_000; run += 1) once();
    const started = process.cpuUsage();
    const runs = 10_000;
    for (let run = 0; run < runs; run += 1) once();
    const { user, system } = process.cpuUsage(started);
    expect((user + system) / 1_000 / runs).toBeLessThan(0.1);
  });
});
