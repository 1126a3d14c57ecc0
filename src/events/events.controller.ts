import { Controller, Get, Headers, Query, Res } from '@nestjs/common';
import { ApiExtraModels, ApiHeader, ApiOkResponse } from '@nestjs/swagger';
import { once } from 'node:events';
import type { Response } from 'express';
import { Fails } from '../platform/http/documentation.js';
import { FairShare, withoutTurn } from '../platform/http/fair-share.js';
import { UnreadResponses } from '../platform/http/unread-responses.js';
import { Allow, Caller, MayLink, WorkspaceIdOrAll } from '../workspaces/auth.guard.js';
import { ownerOf, type Principal } from '../workspaces/authentication.service.js';
import { EventStream } from './event-stream.js';
import { EventResponse, StreamEventsQuery } from './events.dto.js';
import { InvalidEventCursor } from './events.service.js';
import { OpenStreams, TooManyStreams } from './open-streams.js';

/** If more than this waits for a client, it gets no new events until it has read them. It must be more than one batch of events. */
const maxBufferedBytes = 1024 * 1024;
/** How long the client of a stream that ends may take to read the rest. */
const lingerMs = 1_000;

const exampleEvent = `id: 7421-88
event: message.delivered
data: {"id":"7421-88","type":"message.delivered","createdAt":"2026-11-25T10:00:02.113Z","workspaceId":"019aa6e2-5b1c-7c3e-9a41-0d3f5e7b9c21","accountId":"019aa6e2-77aa-7d10-8f20-3f1d5b7c9e02","data":{"id":"019aa6e2-9c40-7e51-b1d2-5a7c9e0f1b23","status":"delivered"}}

`;

@Controller('events')
export class EventsController {
  constructor(
    private readonly stream: EventStream,
    private readonly open: OpenStreams,
    private readonly unread: UnreadResponses,
    private readonly share: FairShare,
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
    if (response.closed) return;
    const leave = this.open.enter(ownerOf(caller));
    let unsubscribe = () => {};
    // Not "close" of the request: if a caller sends a body, its request closes as soon as the body is read.
    response.once('close', () => {
      leave();
      this.open.silence(response);
      unsubscribe();
    });
    response.on('error', () => response.destroy());
    // An ended answer stays open, and in memory, until its client has read it.
    const close = () => {
      unsubscribe();
      response.end();
      const giveUp = setTimeout(() => response.destroy(), lingerMs);
      response.once('close', () => clearTimeout(giveUp));
    };
    response.set({
      'Content-Type': 'text/event-stream',
      'Cache-Control': 'no-cache',
      'X-Accel-Buffering': 'no',
    });
    this.unread.stream(response, () => response.destroy());
    this.open.keepAlive(response, () => {
      if (hasExpired(caller)) close();
    });
    unsubscribe = await this.stream.subscribe(
      {
        workspaceId,
        keyId: caller.kind === 'workspace' ? caller.keyId : undefined,
        types: query.types?.split(',') ?? [],
        after: lastEventId || undefined,
        withCodes,
      },
      {
        deliver: (bytes) => write(response, bytes),
        drained: () => drained(response),
        inTurn: (read) => withoutTurn(() => this.share.run(ownerOf(caller), read)),
        close,
      },
    );
    if (response.destroyed) {
      unsubscribe();
      return;
    }
    response.flushHeaders();
  }
}

function hasExpired(caller: Principal): boolean {
  return caller.kind === 'workspace' && caller.expiresAt !== null && caller.expiresAt.getTime() <= Date.now();
}

/** Resolves when the client has read what waits for it, or is gone. */
async function drained(response: Response): Promise<void> {
  if (!response.writableNeedDrain) return;
  const gone = new AbortController();
  const abort = () => gone.abort();
  response.once('close', abort);
  await once(response, 'drain', { signal: gone.signal }).catch(() => undefined);
  response.off('close', abort);
}

function write(response: Response, bytes: Buffer): boolean {
  if (response.writableEnded || response.destroyed) return false;
  response.write(bytes);
  return response.writableLength < maxBufferedBytes;
}
