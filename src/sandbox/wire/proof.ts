import { createHmac, timingSafeEqual } from 'node:crypto';

/** Proves the knowledge of a secret that a browser and its phone share. */
export function proofOf(secret: string, text: string): string {
  return createHmac('sha256', Buffer.from(secret, 'base64')).update(text).digest('base64');
}

/** Compares two proofs in constant time. */
export function isSameProof(expected: string, given: string): boolean {
  const [left, right] = [Buffer.from(expected), Buffer.from(String(given))];
  return left.length === right.length && timingSafeEqual(left, right);
}
