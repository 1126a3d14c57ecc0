import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';

const algorithm = 'aes-256-gcm';
/** The first byte of everything that is encrypted here: what follows is IV, tag, ciphertext. */
const formatVersion = 1;
const ivBytes = 12;
const tagBytes = 16;
const headerBytes = 1 + ivBytes + tagBytes;

/** What was stored cannot be decrypted; `message` says why that is likely so and what helps. */
export class DecryptionFailed extends Error {
  override name = 'DecryptionFailed';
}

/**
 * A key of its own for one purpose, derived from `APP_KEY` with HKDF-SHA256: what leaks of one tells nothing of another.
 * @param purpose a constant label, such as `session-snapshots`; another label is another key
 */
export function encryptionKey(appKey: string, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', appKey, '', `flotilla/${purpose}`, 32));
}

/**
 * Encrypts with AES-256-GCM under a random IV: the result is 29 bytes longer than `plain`.
 * @param context what the value belongs to, such as the id of its row: it is not stored, and must be given to decrypt, so
 *   that a value which was copied to another row is refused there
 */
export function encrypt(key: Buffer, plain: Buffer, context: string): Buffer {
  const iv = randomBytes(ivBytes);
  const cipher = createCipheriv(algorithm, key, iv).setAAD(authenticated(context));
  const encrypted = [cipher.update(plain), cipher.final()];
  return Buffer.concat([Buffer.of(formatVersion), iv, cipher.getAuthTag(), ...encrypted]);
}

/** Decrypts what {@link encrypt} made. @throws DecryptionFailed when key, context or a single bit are not the same */
export function decrypt(key: Buffer, encrypted: Buffer, context: string): Buffer {
  if (encrypted.length < headerBytes)
    throw new DecryptionFailed(`It is cut off: ${encrypted.length} bytes are less than its header.`);
  if (encrypted[0] !== formatVersion) {
    throw new DecryptionFailed(
      `It has format ${encrypted[0]}, and this version of Flotilla reads format ${formatVersion}: it is damaged, or a newer version wrote it.`,
    );
  }
  const iv = encrypted.subarray(1, 1 + ivBytes);
  const decipher = createDecipheriv(algorithm, key, iv, { authTagLength: tagBytes })
    .setAuthTag(encrypted.subarray(1 + ivBytes, headerBytes))
    .setAAD(authenticated(context));
  try {
    return Buffer.concat([decipher.update(encrypted.subarray(headerBytes)), decipher.final()]);
  } catch (cause) {
    throw new DecryptionFailed(
      'It was encrypted with another APP_KEY, or is damaged. Set APP_KEY to the value with which it was written: every server of a fleet needs the same.',
      { cause },
    );
  }
}

function authenticated(context: string): Buffer {
  return Buffer.concat([Buffer.of(formatVersion), Buffer.from(context)]);
}
