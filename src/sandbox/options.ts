/* Abstract classes rather than interfaces, so that Nest injects them by type. */

/** The part of a pino logger that the sandbox uses. */
export abstract class SandboxLogger {
  abstract debug(fields: object, message?: string): void;
  abstract info(fields: object, message?: string): void;
  abstract warn(fields: object, message?: string): void;
  abstract error(fields: object, message?: string): void;
}

/** Where the sandbox listens for browsers and keeps its files. */
export abstract class SandboxOptions {
  abstract readonly host: string;
  /** 0 takes a free port. */
  abstract readonly port: number;
  abstract readonly dir: string;
  /** The version or the name of the first build of all phones. The default is the newest build. */
  readonly build?: string;
  abstract readonly logger: SandboxLogger;
}
