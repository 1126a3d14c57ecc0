import { Controller, Get, Headers, Query, Res } from '@nestjs/common';
import { ApiExtraModels, ApiHeader, ApiOkResponse } from '@nestjs/swagger';
import { once } from 'node:events';
import type { Response } from 'express';
import { Fails } from '../platform/http/documentation.js';
import { Allow, Caller, MayLink, WorkspaceIdOrAll } from '../workspaces/auth.guard.js';
import type { Principal } from '../workspaces/authentication.service.js';
import { EventStream } from './event-stream.js';
import { EventResponse, StreamEventsQuery } from './events.dto.js';
import { InvalidEventCursor } from './events.service.js';
import { OpenStreams, TooManyStreams } from './open-streams.js';

/** A reader is disconnected if more than this waits for it; it resumes with `Last-Event-ID`. */
const maxBufferedBytes = 4 * 1024 * 1024;

const exampleEvent = `id: 7421-88
event: message.delivered
data: {"id":"7421-88","type":"message.delivered","createdAt":"2026-11-25T10:00:02.113Z","workspaceId":"019aa6e2-5b1c-7c3e-9a41-0d3f5e7b9c21","accountId":"019aa6e2-77aa-7d10-8f20-3f1d5b7c9e02","data":{"id":"019aa6e2-9c40-7e51-b1d2-5a7c9e0f1b23","status":"delivered"}}

`;

@Controller('events')
export class EventsController {
  constructor(
    private readonly stream: EventStream,
    private readonly open: OpenStreams,
  ) {}

  /**
   * Streams the events of the workspace as server-sent events. `Last-Event-ID` resumes where a broken stream ended. The admin
   * key without `?workspaceId=` gets the events of every workspace, and `instance.status`, which belongs to no workspace.
   */
  @Allow('viewer')
  @ApiHeader({
    name: 'Last-Event-ID',
    description:
      'The `id` of the last event that arrived: the stream begins with the events after it. `0-0` is the beginning of the log.',
    schema: { type: 'string', pattern: '^\\d+-\\d+$' },
    example: '0-0',
  })
  @ApiOkResponse({
    description:
      'Events as they happen. The first line is an `id` without an event, the place where the stream begins. A comment every 15 seconds keeps the connection open. `data` holds one line of JSON: an `Event`.',
    content: { 'text/event-stream': { schema: { type: 'string' }, example: exampleEvent } },
  })
  @ApiExtraModels(EventResponse)
  @Fails(InvalidEventCursor, TooManyStreams)
  @Get()
  async follow(
    @WorkspaceIdOrAll() workspaceId: string | undefined,
    @Caller() caller: Principal,
    @MayLink() withCodes: boolean,
    @Query() query: StreamEventsQuery,
    @Headers('last-event-id') lastEventId: string | undefined,
    @Res() response: Response,
  ): Promise<void> {
    const leave = this.open.enter(caller.kind === 'admin' ? 'admin' : caller.workspaceId);
    let unsubscribe = () => {};
    const close = () => {
      leave();
      this.open.silence(response);
      unsubscribe();
      response.end();
    };
    // Not "close" of the request: if a caller sends a body, its request closes as soon as the body is read.
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
        { deliver: (text) => write(response, text), drained: () => drained(response), close },
      );
    } catch (error) {
      leave();
      throw error;
    }
    if (response.destroyed) {
      unsubscribe();
      return;
    }
    response.flushHeaders();
    this.open.keepAlive(response, () => {
      if (hasExpired(caller)) close();
    });
  }
}

function hasExpired(caller: Principal): boolean {
  return caller.kind === 'workspace' && caller.expiresAt !== null && caller.expiresAt.getTime() <= Date.now();
}

async function drained(response: Response): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  // If the connection closes, the stream is closed too, so there is nothing to wait for.
  if (!response.destroyed) await once(response, 'drain', { signal: gone.signal }).catch(() => undefined);
}

function write(response: Response, text: string): boolean {
  if (response.writableEnded || response.destroyed) return false;
  response.write(text);
  return response.writableLength < maxBufferedBytes;
}
