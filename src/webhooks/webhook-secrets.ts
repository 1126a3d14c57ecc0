import { Inject, Injectable } from '@nestjs/common';
import { createHmac, randomBytes } from 'node:crypto';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { decrypt, encrypt, encryptionKeys } from '../platform/encryption.js';

const prefix = 'whsec_';
/** What the Standard Webhooks specification asks of a key. */
const shortestBytes = 24;
const longestBytes = 64;

/** A new secret: 32 random bytes. */
export function newSecret(): string {
  return `${prefix}${randomBytes(32).toString('base64')}`;
}

/** Whether a secret that somebody brings has the form and the strength that the specification asks for. */
export function isSecret(text: string): boolean {
  if (!/^whsec_[A-Za-z0-9+/]+={0,2}$/.test(text)) return false;
  const { length } = keyOf(text);
  return length >= shortestBytes && length <= longestBytes;
}

/**
 * The value of `Webhook-Signature`: one signature a secret, so that a receiver may know either while one replaces the other.
 * @param timestamp seconds since 1970
 */
export function signatures(secrets: string[], id: string, timestamp: number, body: string): string {
  return secrets
    .map((secret) =>
      createHmac('sha256', keyOf(secret)).update(`${id}.${timestamp}.${body}`).digest('base64'),
    )
    .map((signature) => `v1,${signature}`)
    .join(' ');
}

function keyOf(secret: string): Buffer {
  return Buffer.from(secret.slice(prefix.length), 'base64');
}

/** Keeps the secrets of endpoints: encrypted with `APP_KEY`, each for its own row. */
@Injectable()
export class WebhookSecrets {
  /** The first one writes, all of them read. */
  private readonly keys: Buffer[];

  constructor(@Inject(CONFIG) config: Config) {
    this.keys = encryptionKeys(config, 'webhook-secrets');
  }

  encrypt(webhookId: string, secret: string): Buffer {
    return encrypt(this.keys[0]!, Buffer.from(secret), webhookId);
  }

  /** @throws DecryptionFailed when APP_KEY is not that with which it was written */
  decrypt(webhookId: string, encrypted: Buffer): string {
    return decrypt(this.keys, encrypted, webhookId).toString();
  }
}
