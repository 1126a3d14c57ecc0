export class HealthResponse {
  /** @example ok */
  status!: string;
  /** Accounts that are ready. */
  activeConnections!: number;
  timestamp!: string;
  /** Of this process, in seconds. */
  uptime!: number;
}

export class LiveResponse {
  /** @example ok */
  status!: string;
}

export class ReadyResponse {
  /** @example ok */
  status!: string;
  /** `ok` or `unreachable`; messages are accepted either way. */
  redis!: string;
}

export class DetailedHealthResponse {
  /** @example healthy */
  status!: string;
  timestamp!: string;
  /** Of this process, in seconds. */
  uptime!: number;
  version!: string;
  accounts!: { total: number; connected: number; connecting: number };
  /** In bytes. */
  memory!: { heapUsed: number; heapTotal: number; rss: number };
  /** Milliseconds, over the latest requests. */
  performance!: { avgResponseTime: number; p95ResponseTime: number; p99ResponseTime: number };
}
