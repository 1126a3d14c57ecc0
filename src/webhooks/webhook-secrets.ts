import { Inject, Injectable } from '@nestjs/common';
import { createHmac, randomBytes } from 'node:crypto';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { decrypt, encrypt, encryptionKeys } from '../platform/encryption.js';
import type { Login } from '../platform/http/public-fetch.js';

const prefix = 'whsec_';
/** The limits of a key in the Standard Webhooks specification. */
const minBytes = 24;
const maxBytes = 64;

/** A new secret: 32 random bytes. */
export function newSecret(): string {
  return `${prefix}${randomBytes(32).toString('base64')}`;
}

/** Whether a user's secret has the form and the length that the specification requires. */
export function isSecret(text: string): boolean {
  if (!/^whsec_[A-Za-z0-9+/]+={0,2}$/.test(text)) return false;
  const { length } = keyOf(text);
  return length >= minBytes && length <= maxBytes;
}

/**
 * The value of `Webhook-Signature`: one signature for each secret, so that a receiver may know either secret during a change.
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

/** What an attempt needs to know of an endpoint, decrypted. */
export interface Endpoint {
  url: string;
  /** The secrets that sign. */
  secrets: string[];
  headers: Record<string, string>;
  login: Login | null;
  caCertificate: string | null;
}

/** The row of an endpoint, as far as an attempt needs it. */
export interface EncryptedEndpoint {
  id: string;
  url: string;
  secret: Buffer;
  /** The secret before a change, while it still signs too. */
  previousSecret: Buffer | null;
  headers: Buffer | null;
  login: Buffer | null;
  caCertificate: string | null;
}

/** Encrypts the secrets of endpoints with `APP_KEY`, each for its own row. */
@Injectable()
export class WebhookSecrets {
  /** The first key encrypts, all keys decrypt. */
  private readonly keys: Buffer[];

  constructor(@Inject(CONFIG) config: Config) {
    this.keys = encryptionKeys(config, 'webhook-secrets');
  }

  encrypt(webhookId: string, secret: string): Buffer {
    return encrypt(this.keys[0]!, Buffer.from(secret), webhookId);
  }

  /** The headers or the login of an endpoint; null for none. */
  encryptObject(webhookId: string, object: object | null): Buffer | null {
    return object === null || Object.keys(object).length === 0
      ? null
      : this.encrypt(webhookId, JSON.stringify(object));
  }

  /** @throws DecryptionFailed */
  headersOf({ id, headers }: Pick<EncryptedEndpoint, 'id' | 'headers'>): Record<string, string> {
    return headers ? (JSON.parse(this.decrypt(id, headers)) as Record<string, string>) : {};
  }

  /** @throws DecryptionFailed */
  loginOf({ id, login }: Pick<EncryptedEndpoint, 'id' | 'login'>): Login | null {
    return login ? (JSON.parse(this.decrypt(id, login)) as Login) : null;
  }

  /** An endpoint with its secrets. @throws DecryptionFailed */
  endpointOf(row: EncryptedEndpoint): Endpoint {
    return {
      url: row.url,
      secrets: [row.secret, row.previousSecret].flatMap((one) => (one ? [this.decrypt(row.id, one)] : [])),
      headers: this.headersOf(row),
      login: this.loginOf(row),
      caCertificate: row.caCertificate,
    };
  }

  /** @throws DecryptionFailed if it was encrypted with another APP_KEY */
  decrypt(webhookId: string, encrypted: Buffer): string {
    return decrypt(this.keys, encrypted, webhookId).toString();
  }
}
