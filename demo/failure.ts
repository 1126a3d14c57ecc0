import { FlotillaError } from '../clients/typescript/src/index.js';

/** Why the demo cannot continue. The message is for the user, with the remedy where there is one. */
export class DemoFailed extends Error {
  override name = 'DemoFailed';
}

/** Any error as a message for the user. */
export function describe(error: unknown): string {
  if (error instanceof FlotillaError && error.status !== 0)
    return `Flotilla refused a call: ${error.message} (${error.status} ${error.code})`;
  return error instanceof Error ? error.message : String(error);
}
