import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto';

const algorithm = 'aes-256-gcm';
/**
 * The first byte of everything that is encrypted here. Format 2: the id of the key, IV, tag, ciphertext. Format 1 had no id
 * and is still read.
 */
const formatVersion = 2;
const keyIdBytes = 4;
const ivBytes = 12;
const tagBytes = 16;
const headerBytes = { 1: 1 + ivBytes + tagBytes, 2: 1 + keyIdBytes + ivBytes + tagBytes };

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

/** The keys of one purpose: that of `APP_KEY` first, with which is written, then those of `APP_PREVIOUS_KEYS`, to read with. */
export function encryptionKeys(
  { appKey, appPreviousKeys }: { appKey: string; appPreviousKeys: string[] },
  purpose: string,
): Buffer[] {
  return [appKey, ...appPreviousKeys].map((key) => encryptionKey(key, purpose));
}

/**
 * Encrypts with AES-256-GCM under a random IV: the result is 33 bytes longer than `plain`.
 * @param context what the value belongs to, such as the id of its row: it is not stored, and must be given to decrypt, so
 *   that a value which was copied to another row is refused there
 */
export function encrypt(key: Buffer, plain: Buffer, context: string): Buffer {
  const iv = randomBytes(ivBytes);
  const cipher = createCipheriv(algorithm, key, iv).setAAD(authenticated(formatVersion, context));
  const encrypted = [cipher.update(plain), cipher.final()];
  return Buffer.concat([writtenWith(key), iv, cipher.getAuthTag(), ...encrypted]);
}

/** How everything begins that was encrypted with a key: by this one sees what is still to be encrypted anew. */
export function writtenWith(key: Buffer): Buffer {
  return Buffer.concat([Buffer.of(formatVersion), keyId(key)]);
}

/**
 * Decrypts what {@link encrypt} made.
 * @param keys one, or all that it may have been written with
 * @throws DecryptionFailed when no key fits, or context or a single bit are not the same
 */
export function decrypt(keys: Buffer | readonly Buffer[], encrypted: Buffer, context: string): Buffer {
  const version = encrypted[0];
  if (version !== undefined && version !== 1 && version !== formatVersion) {
    throw new DecryptionFailed(
      `It has format ${version}, and this version of Flotilla reads formats 1 and ${formatVersion}: it is damaged, or a newer version wrote it.`,
    );
  }
  const header = headerBytes[version ?? 1];
  if (encrypted.length < header)
    throw new DecryptionFailed(`It is cut off: ${encrypted.length} bytes are less than its header.`);
  const all = Array.isArray(keys) ? (keys as readonly Buffer[]) : [keys as Buffer];
  let failure: unknown;
  for (const key of all) {
    if (version === 2 && !keyId(key).equals(encrypted.subarray(1, 1 + keyIdBytes))) continue;
    try {
      return decryptWith(key, encrypted, header, context);
    } catch (error) {
      failure = error;
    }
  }
  throw new DecryptionFailed(
    'It was encrypted with another APP_KEY, or is damaged. Set APP_KEY to the value with which it was written, or add that to APP_PREVIOUS_KEYS: every server of a fleet needs the same.',
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

/** Tells keys apart, and nothing about them. */
function keyId(key: Buffer): Buffer {
  return createHash('sha256').update('flotilla/key-id').update(key).digest().subarray(0, keyIdBytes);
}

function authenticated(version: number, context: string): Buffer {
  return Buffer.concat([Buffer.of(version), Buffer.from(context)]);
}
