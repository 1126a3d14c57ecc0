import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import type { Response } from 'express';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';

const heartbeatMs = 15_000;

export class TooManyStreams extends Problem {
  constructor(limit: number) {
    super(
      429,
      'events.too_many_streams',
      `This workspace (or the admin key) has ${limit} streams open already. Close those that nobody reads, read several kinds of events in one, or raise EVENT_STREAMS_PER_WORKSPACE.`,
      undefined,
      60,
    );
  }
}

/** The streams that are open in this process: how many each workspace has, and one heartbeat for all of them. */
@Injectable()
export class OpenStreams implements OnApplicationShutdown {
  /** With what looks after each of them. */
  private readonly streams = new Map<Response, () => void>();
  private readonly perCaller = new Map<string, number>();
  private readonly limit: number;
  private heartbeat: NodeJS.Timeout | null = null;

  constructor(@Inject(CONFIG) { http }: Config) {
    this.limit = http.eventStreamsPerWorkspace;
  }

  /**
   * Counts a stream, until what it returns is called.
   * @param caller whose stream it is: the workspace, or the admin
   * @throws TooManyStreams
   */
  enter(caller: string): () => void {
    const count = this.perCaller.get(caller) ?? 0;
    if (count >= this.limit) throw new TooManyStreams(this.limit);
    this.perCaller.set(caller, count + 1);
    let isIn = true;
    return () => {
      if (!isIn) return;
      isIn = false;
      const left = this.perCaller.get(caller)! - 1;
      if (left === 0) this.perCaller.delete(caller);
      else this.perCaller.set(caller, left);
    };
  }

  /**
   * Writes a comment to a stream every 15 seconds, so that no proxy takes it for dead, until {@link silence}.
   * @param look is called before, and may close it
   */
  keepAlive(stream: Response, look: () => void): void {
    this.streams.set(stream, look);
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
    for (const [stream, look] of [...this.streams]) {
      look();
      // One that does not read has enough to read already; it is cut off when that becomes too much.
      if (stream.writableLength === 0 && !stream.writableEnded) stream.write(': still here\n\n');
    }
  }

  private stop(): void {
    if (this.heartbeat) clearInterval(this.heartbeat);
    this.heartbeat = null;
  }
}
