import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto';

const algorithm = 'aes-256-gcm';
/**
 * The first byte of every encrypted value. In format 2, the id of the key, the IV, the tag and the ciphertext follow. Format 1
 * has no id of the key. Flotilla still reads it.
 */
const formatVersion = 2;
const keyIdBytes = 4;
const ivBytes = 12;
const tagBytes = 16;
const headerBytes = { 1: 1 + ivBytes + tagBytes, 2: 1 + keyIdBytes + ivBytes + tagBytes };

/** A stored value cannot be decrypted. `message` names the likely reason and the cure. */
export class DecryptionFailed extends Error {
  override name = 'DecryptionFailed';
}

/**
 * A key for one purpose, derived from `APP_KEY` with HKDF-SHA256. If the key of one purpose leaks, the others stay secret.
 * @param purpose a constant label, such as `session-snapshots`. Each label gives another key.
 */
export function encryptionKey(appKey: string, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', appKey, '', `flotilla/${purpose}`, 32));
}

/** The keys of one purpose: first the key from `APP_KEY`, which encrypts, then the keys from `APP_PREVIOUS_KEYS`, which only decrypt. */
export function encryptionKeys(
  { appKey, appPreviousKeys }: { appKey: string; appPreviousKeys: string[] },
  purpose: string,
): Buffer[] {
  return [appKey, ...appPreviousKeys].map((key) => encryptionKey(key, purpose));
}

/**
 * Encrypts with AES-256-GCM and a random IV. The result is 33 bytes longer than `plain`.
 * @param context the owner of the value, such as the id of its row. It is not stored, and decryption needs the same context:
 *   so a value that is copied to another row cannot be decrypted there.
 */
export function encrypt(key: Buffer, plain: Buffer, context: string): Buffer {
  const iv = randomBytes(ivBytes);
  const cipher = createCipheriv(algorithm, key, iv).setAAD(authenticated(formatVersion, context));
  const encrypted = [cipher.update(plain), cipher.final()];
  return Buffer.concat([writtenWith(key), iv, cipher.getAuthTag(), ...encrypted]);
}

/** The first bytes of every value that was encrypted with a key. A key rotation finds the values of older keys with them. */
export function writtenWith(key: Buffer): Buffer {
  return Buffer.concat([Buffer.of(formatVersion), keyId(key)]);
}

/**
 * Decrypts a value of {@link encrypt}.
 * @param keys the key, or all keys that may have encrypted the value
 * @throws DecryptionFailed if no key fits, the context is different, or a single bit has changed
 */
export function decrypt(keys: Buffer | readonly Buffer[], encrypted: Buffer, context: string): Buffer {
  const version = encrypted[0];
  if (version !== undefined && version !== 1 && version !== formatVersion) {
    throw new DecryptionFailed(
      `It has format ${version}, but this version of Flotilla reads formats 1 and ${formatVersion} only. It is damaged, or a newer version of Flotilla wrote it: update this server.`,
    );
  }
  const header = headerBytes[version ?? 1];
  if (encrypted.length < header)
    throw new DecryptionFailed(`It is truncated: ${encrypted.length} bytes are less than its header.`);
  const candidates = Array.isArray(keys) ? (keys as readonly Buffer[]) : [keys as Buffer];
  let failure: unknown;
  for (const key of candidates) {
    if (version === 2 && !keyId(key).equals(encrypted.subarray(1, 1 + keyIdBytes))) continue;
    try {
      return decryptWith(key, encrypted, header, context);
    } catch (error) {
      failure = error;
    }
  }
  throw new DecryptionFailed(
    'It was encrypted with another APP_KEY, or it is damaged. Set APP_KEY to the value that encrypted it, or add that value to APP_PREVIOUS_KEYS. Every server of a fleet needs the same values.',
    { cause: failure },
  );
}

function decryptWith(key: Buffer, encrypted: Buffer, header: number, context: string): Buffer {
  const tagAt = header - tagBytes;
  const decipher = createDecipheriv(algorithm, key, encrypted.subarray(tagAt - ivBytes, tagAt), {
    authTagLength: tagBytes,
  })
    .setAuthTag(encrypted.subarray(tagAt, header))
    .setAAD(authenticated(encrypted[0]!, context));
  return Buffer.concat([decipher.update(encrypted.subarray(header)), decipher.final()]);
}

/** Identifies a key without revealing anything about it. */
function keyId(key: Buffer): Buffer {
  return createHash('sha256').update('flotilla/key-id').update(key).digest().subarray(0, keyIdBytes);
}

function authenticated(version: number, context: string): Buffer {
  return Buffer.concat([Buffer.of(version), Buffer.from(context)]);
}
