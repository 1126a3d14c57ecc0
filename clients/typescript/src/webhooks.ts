import type { FlotillaEvent } from './types.js';

/** A delivery that Flotilla did not send, or not now. */
export class WebhookRefused extends Error {
  override name = 'WebhookRefused';
}

/** How far the clocks may be apart, and how long a delivery that somebody else has recorded is worth anything. */
const toleranceSeconds = 300;

/**
 * Checks that a delivery comes from Flotilla (Standard Webhooks: `v1,` + base64 of HMAC-SHA256 over `id.timestamp.body`).
 * @param body as it arrived, before anything parsed it
 * @param headers of the request; `Webhook-Id`, `Webhook-Timestamp` and `Webhook-Signature` are read
 * @param secrets what making the webhook answered with; several while one replaces another
 * @throws WebhookRefused: answer 400, and believe nothing of it
 */
export async function verifyWebhook(
  body: string,
  headers: Headers | Record<string, string | string[] | undefined>,
  secrets: string | string[],
  now = Date.now(),
): Promise<FlotillaEvent> {
  const id = headerOf(headers, 'webhook-id');
  const timestamp = headerOf(headers, 'webhook-timestamp');
  const signatures = headerOf(headers, 'webhook-signature');
  if (!id || !timestamp || !signatures) throw new WebhookRefused('A header of the signature is missing.');
  const age = Math.abs(now / 1_000 - Number(timestamp));
  if (!(age <= toleranceSeconds)) throw new WebhookRefused('The delivery is too old, or from the future.');
  const signed = new TextEncoder().encode(`${id}.${timestamp}.${body}`);
  const given = signatures
    .split(' ')
    .flatMap((signature) => (signature.startsWith('v1,') ? [signature.slice(3)] : []));
  for (const secret of [secrets].flat()) {
    const key = await crypto.subtle.importKey(
      'raw',
      bytesOf(secret),
      { name: 'HMAC', hash: 'SHA-256' },
      false,
      ['verify'],
    );
    for (const signature of given) {
      const bytes = fromBase64(signature);
      // Compares in constant time.
      if (bytes && (await crypto.subtle.verify('HMAC', key, bytes, signed)))
        return JSON.parse(body) as FlotillaEvent;
    }
  }
  throw new WebhookRefused('No signature fits.');
}

/** `whsec_` and base64, as the scheme writes secrets; any other text is taken as it stands. */
function bytesOf(secret: string): Uint8Array<ArrayBuffer> {
  const encoded = secret.startsWith('whsec_') ? fromBase64(secret.slice(6)) : null;
  return encoded ?? new TextEncoder().encode(secret);
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> | null {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}

function headerOf(
  headers: Headers | Record<string, string | string[] | undefined>,
  name: string,
): string | undefined {
  if (headers instanceof Headers) return headers.get(name) ?? undefined;
  const [, value] = Object.entries(headers).find(([key]) => key.toLowerCase() === name) ?? [];
  return Array.isArray(value) ? value[0] : value;
}
