import type { Config } from '../platform/config/config.js';
import type { HttpOptions } from '../platform/http/http.js';
import { signedCalls } from '../platform/http/internal.guard.js';
import { CallVerifier } from '../platform/http/signed-calls.js';

/** An instance answers the other programs of Flotilla only. */
export function httpOptionsOf({ internalApiKey, instance }: Config): HttpOptions {
  const { beforeBody, seeBody, afterBody } = signedCalls(new CallVerifier(internalApiKey), instance.url);
  return { beforeBody: () => [beforeBody], seeBody, afterBody: [afterBody] };
}
