import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decrypt,
  DecryptionFailed,
  encrypt,
  encryptionKey,
  encryptionKeys,
  writtenWith,
} from '../../src/platform/encryption.js';

const appKey = 'MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=';
const key = encryptionKey(appKey, 'test');
const bytes = fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array));

describe('encryption', () => {
  it('decrypts any encrypted value', () => {
    fc.assert(
      fc.property(bytes, fc.string(), (plain, context) => {
        const encrypted = encrypt(key, plain, context);
        expect(encrypted).toHaveLength(plain.length + 33);
        expect(decrypt(key, encrypted, context)).toEqual(plain);
      }),
    );
  });

  it('refuses a value with one changed bit anywhere', () => {
    const encrypted = encrypt(key, Buffer.from('credentials'), 'account 1');
    for (let bit = 0; bit < encrypted.length * 8; bit += 1) {
      const tampered = Buffer.from(encrypted);
      tampered[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => decrypt(key, tampered, 'account 1'), `bit ${bit}`).toThrow(DecryptionFailed);
    }
  });

  it('refuses a truncated value', () => {
    const encrypted = encrypt(key, Buffer.from('credentials'), 'account 1');
    for (let length = 0; length < encrypted.length; length += 1)
      expect(() => decrypt(key, encrypted.subarray(0, length), 'account 1')).toThrow(DecryptionFailed);
  });

  it('refuses a value in another context', () => {
    const encrypted = encrypt(key, Buffer.from('credentials'), 'account 1');
    expect(() => decrypt(key, encrypted, 'account 2')).toThrow(DecryptionFailed);
  });

  it('refuses another APP_KEY, and names it as the cure', () => {
    const encrypted = encrypt(key, Buffer.from('credentials'), 'account 1');
    const other = encryptionKey(appKey.toLowerCase(), 'test');
    expect(() => decrypt(other, encrypted, 'account 1')).toThrow(/Set APP_KEY to the value/);
  });

  it('has another key for each purpose', () => {
    const encrypted = encrypt(key, Buffer.from('credentials'), 'account 1');
    const other = encryptionKey(appKey, 'another');
    expect(() => decrypt(other, encrypted, 'account 1')).toThrow(DecryptionFailed);
  });

  it('decrypts with an earlier APP_KEY too, and encrypts with the present one', () => {
    const old = encrypt(key, Buffer.from('credentials'), 'account 1');
    const config = { appKey: appKey.toLowerCase(), appPreviousKeys: [appKey.toUpperCase(), appKey] };
    const keys = encryptionKeys(config, 'test');
    expect(decrypt(keys, old, 'account 1').toString()).toBe('credentials');
    const rotated = encrypt(keys[0]!, Buffer.from('credentials'), 'account 1');
    expect(() => decrypt(key, rotated, 'account 1')).toThrow(/APP_PREVIOUS_KEYS/);
    expect(rotated.subarray(0, 5)).toEqual(writtenWith(keys[0]!));
    expect(old.subarray(0, 5)).toEqual(writtenWith(key));
  });

  it('encrypts the same value differently each time', () => {
    const seen = Array.from({ length: 100 }, () => encrypt(key, Buffer.from('x'), '').toString('hex'));
    expect(new Set(seen).size).toBe(100);
  });

  it('decrypts values of format 1', () => {
    const encrypted = Buffer.from('AcVxRImUMZnrhRq7SHoIB46kfVeVntxy7Cu82CXcf8NxWGxbeDDipg==', 'base64');
    expect(decrypt(key, encrypted, 'account 1').toString()).toBe('credentials');
  });
});
