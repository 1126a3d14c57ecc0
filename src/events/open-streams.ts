import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import type { Response } from 'express';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import { ConcurrencyLimit } from '../platform/limits/concurrency-limit.js';
import { SharedCounts } from '../platform/limits/shared-counts.js';

const heartbeatMs = 15_000;

export class TooManyStreams extends Problem {
  constructor(limit: number) {
    super(
      429,
      'events.too_many_streams',
      `This workspace (or the admin key) has ${limit} streams open, the limit. Close unused streams, read several event types in one stream, or raise EVENT_STREAMS_PER_WORKSPACE.`,
      undefined,
      60,
    );
  }
}

/** The open streams of this process, with one heartbeat for all. The limit of a workspace counts those of all processes. */
@Injectable()
export class OpenStreams implements OnApplicationShutdown {
  /** Each stream with its check before a heartbeat. */
  private readonly streams = new Map<Response, () => void>();
  private readonly limit: ConcurrencyLimit;
  private heartbeat: NodeJS.Timeout | null = null;

  constructor(@Inject(CONFIG) { http }: Config, counts: SharedCounts) {
    this.limit = new ConcurrencyLimit(
      counts,
      'streams',
      http.eventStreamsPerWorkspace,
      (limit) => new TooManyStreams(limit),
    );
  }

  /** The number of open streams. */
  get count(): number {
    return this.limit.count;
  }

  /**
   * Counts a stream until the returned function is called.
   * @param caller the owner of the stream: a workspace id, or `admin`
   * @throws TooManyStreams
   */
  enter(caller: string): () => void {
    return this.limit.enter(caller);
  }

  /**
   * Writes a comment to a stream every 15 seconds, so that no proxy closes it, until {@link silence}.
   * @param check runs before each comment, and may close the stream
   */
  keepAlive(stream: Response, check: () => void): void {
    this.streams.set(stream, check);
    this.heartbeat ??= setInterval(() => this.beat(), heartbeatMs);
  }

  silence(stream: Response): void {
    this.streams.delete(stream);
    if (this.streams.size === 0) this.stop();
  }

  onApplicationShutdown(): void {
    this.stop();
  }

  private beat(): void {
    for (const [stream, check] of [...this.streams]) {
      check();
      // A client that does not read needs no comment: it is disconnected when too much waits for it.
      if (stream.writableLength === 0 && !stream.writableEnded) stream.write(': still here\n\n');
    }
  }

  private stop(): void {
    if (this.heartbeat) clearInterval(this.heartbeat);
    this.heartbeat = null;
  }
}
