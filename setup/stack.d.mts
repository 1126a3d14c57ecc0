/** What `createStack` takes and gives; see stack.mjs. */
export interface StackOptions {
  /** Where everything is kept (its own temporary directory unless given; a given one is not removed). */
  dir?: string;
  /** 2 unless given. */
  instances?: number;
  /** 1 unless given. */
  workers?: number;
  /** `shared`: a new database on the server of DATABASE_URL, when that is set (the default); `own`: a PostgreSQL of its own. */
  postgres?: 'shared' | 'own';
  /** Which programs run: all unless given. A server of a larger fleet may have instances alone. */
  programs?: ('sandbox' | 'instance' | 'worker' | 'scheduler' | 'api')[];
  /** More environment variables for the programs; they win. */
  env?: Record<string, string>;
}

export interface Program {
  /** supervisord's word: RUNNING, STARTING, BACKOFF, STOPPING, STOPPED, EXITED, FATAL. */
  state: string;
  /** 0 when it does not run. */
  pid: number;
}

export interface Stack {
  readonly dir: string;
  readonly varDir: string;
  /** The pid of its supervisord while it runs. */
  readonly supervisordPid: number | undefined;
  /** The settings of this stack: keys, ports, DATABASE_URL, REDIS_URL, VAR_DIR, … */
  readonly env: Record<string, string>;
  readonly urls: { api: string; sandbox: string; instances: string[] };
  /** Resolves when every program is RUNNING and ready. On failure everything is stopped again. */
  start(): Promise<void>;
  /** Stops everything and removes the database and the files; with `keep` they stay, and `start` goes on from them. */
  stop(options?: { keep?: boolean }): Promise<void>;
  /** supervisorctl, for example `ctl('restart', 'flotilla:worker_00')`. */
  ctl(...args: string[]): Promise<string>;
  /** By full name: `flotilla:api`, `flotilla:instance_00`, `flotilla-data:redis`. */
  status(): Promise<Map<string, Program>>;
  /** Sends a signal (KILL unless named) to a program and resolves with the pid that it had. */
  kill(name: string, signal?: NodeJS.Signals): Promise<number>;
  /** Waits until a program is RUNNING, as another process than `notPid`. */
  waitUntilRunning(
    name: string,
    options?: { notPid?: number; timeoutMs?: number },
  ): Promise<{ pid: number; afterMs: number }>;
  /** The log of a program, standard output and error together. */
  logs(name: string): Promise<string>;
  /** Runs `./flotilla …` on this stack. */
  cli(...args: string[]): Promise<{ code: number; output: string; stdout: string }>;
}

export function createStack(options?: StackOptions): Promise<Stack>;
