import { Controller, Get, Headers, Query, Res } from '@nestjs/common';
import { once } from 'node:events';
import type { Response } from 'express';
import { Allow, Caller, MayLink, WorkspaceId } from '../workspaces/auth.guard.js';
import type { Principal } from '../workspaces/authentication.service.js';
import { EventStream } from './event-stream.service.js';
import { StreamEventsQuery } from './events.dto.js';
import type { PublicEvent } from './events.service.js';

const heartbeatMs = 15_000;
/** How much may wait for a slow reader before it is cut off; it resumes with `Last-Event-ID`. */
const maxBufferedBytes = 4 * 1024 * 1024;

@Controller('events')
export class EventsController {
  constructor(private readonly stream: EventStream) {}

  /** Server-sent events of the workspace. `Last-Event-ID` resumes where a broken stream ended. */
  @Allow('viewer')
  @Get()
  async follow(
    @WorkspaceId() workspaceId: string,
    @MayLink() withCodes: boolean,
    @Caller() caller: Principal,
    @Query() query: StreamEventsQuery,
    @Headers('last-event-id') lastEventId: string | undefined,
    @Res() response: Response,
  ): Promise<void> {
    let unsubscribe = () => {};
    const heartbeat = setInterval(() => {
      if (hasExpired(caller)) close();
      else response.write(': still here\n\n');
    }, heartbeatMs);
    const close = () => {
      clearInterval(heartbeat);
      unsubscribe();
      response.end();
    };
    // Of the response: the request of a caller that sends a body closes as soon as that is read.
    response.on('close', close);
    response.on('error', close);
    response.set({
      'Content-Type': 'text/event-stream',
      'Cache-Control': 'no-cache',
      'X-Accel-Buffering': 'no',
    });
    try {
      unsubscribe = await this.stream.subscribe(
        {
          workspaceId,
          keyId: caller.kind === 'workspace' ? caller.keyId : undefined,
          types: query.types?.split(',') ?? [],
          after: lastEventId || undefined,
          withCodes,
        },
        { deliver: (event) => write(response, event), drained: () => drained(response), close },
      );
      if (response.destroyed) unsubscribe();
    } catch (error) {
      clearInterval(heartbeat);
      throw error;
    }
    response.flushHeaders();
  }
}

function hasExpired(caller: Principal): boolean {
  return caller.kind === 'workspace' && caller.expiresAt !== null && caller.expiresAt.getTime() <= Date.now();
}

async function drained(response: Response): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  // Gone is as good as drained: the stream is closed then.
  if (!response.destroyed) await once(response, 'drain', { signal: gone.signal }).catch(() => undefined);
}

function write(response: Response, event: PublicEvent): boolean {
  if (response.writableEnded || response.destroyed) return false;
  const data = JSON.stringify({
    id: event.cursor,
    type: event.type,
    createdAt: event.createdAt,
    workspaceId: event.workspaceId,
    accountId: event.accountId,
    data: event.data,
  });
  response.write(`id: ${event.cursor}\nevent: ${event.type}\ndata: ${data}\n\n`);
  return response.writableLength < maxBufferedBytes;
}
