import type { Config } from '../platform/config/config.js';
import type { HttpOptions } from '../platform/http/http.js';
import { signedCalls } from '../platform/http/internal.guard.js';
import { CallVerifier } from '../platform/http/signed-calls.js';

/** An instance answers only signed calls of the other programs of Flotilla. */
export function httpOptionsOf({ internalApiKey, instance }: Config): HttpOptions {
  const { beforeBody, seeBody, afterBody } = signedCalls(new CallVerifier(internalApiKey), instance.url);
  return { beforeBody: () => [beforeBody], seeBody, afterBody: [afterBody] };
}
