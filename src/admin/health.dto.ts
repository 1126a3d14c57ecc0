export class HealthResponse {
  /** @example ok */
  status!: string;
  /** The number of accounts that are `ready`. */
  activeConnections!: number;
  timestamp!: string;
  /** Uptime of this process, in seconds. */
  uptime!: number;
}

export class LiveResponse {
  /** @example ok */
  status!: string;
}

export class ReadyResponse {
  /** @example ok */
  status!: string;
  /** `ok` or `unreachable`. Flotilla accepts messages in both cases. */
  redis!: string;
  /** Connected accounts whose page of WhatsApp Web lacks what sending needs. Their messages wait. */
  webIncompatible!: number;
}

export class DetailedHealthResponse {
  /** @example healthy */
  status!: string;
  timestamp!: string;
  /** Uptime of this process, in seconds. */
  uptime!: number;
  version!: string;
  accounts!: { total: number; connected: number; connecting: number; webIncompatible: number };
  /** Memory of this process, in bytes. */
  memory!: { heapUsed: number; heapTotal: number; rss: number };
  /** Response times of the latest requests, in milliseconds. */
  performance!: { avgResponseTime: number; p95ResponseTime: number; p99ResponseTime: number };
}
