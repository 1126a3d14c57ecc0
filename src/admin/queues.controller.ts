import { Controller, Get, HttpCode, type OnApplicationBootstrap, Param, Post } from '@nestjs/common';
import { ApiParam } from '@nestjs/swagger';
import { Fails } from '../platform/http/documentation.js';
import { QueueNotFound, toQueueName } from '../queues/queue-policies.js';
import { type QueueState, QueueStates } from '../queues/queue-states.js';
import { Allow } from '../workspaces/auth.guard.js';
import { QueuesResponse, QueueStateResponse } from './backlog.dto.js';
import { BacklogService } from './backlog.service.js';

/** The queues, for operators. */
@Allow('admin')
@Controller('admin/queues')
export class QueuesController implements OnApplicationBootstrap {
  constructor(
    private readonly backlog: BacklogService,
    private readonly states: QueueStates,
  ) {}

  onApplicationBootstrap(): void {
    void this.backlog.countRegularly();
  }

  /**
   * Lists the queues with their backlog, in the order in which workers serve them. If more than 50,000 messages wait, the numbers of the
   * `whatsapp-` queues are usually seconds old, and at most a minute.
   */
  @Get()
  async list(): Promise<QueuesResponse> {
    return { items: await this.backlog.read(), nextCursor: null };
  }

  /** Pauses a queue: workers take no jobs of it and send none of its messages. */
  @Fails(QueueNotFound)
  @ApiParam({ name: 'name', example: 'whatsapp-campaign' })
  @Post(':name/pause')
  @HttpCode(200)
  async pause(@Param('name') name: string): Promise<QueueStateResponse> {
    return toResponse(await this.states.pause(toQueueName(name)));
  }

  /** Resumes a paused queue. */
  @Fails(QueueNotFound)
  @ApiParam({ name: 'name', example: 'whatsapp-campaign' })
  @Post(':name/resume')
  @HttpCode(200)
  async resume(@Param('name') name: string): Promise<QueueStateResponse> {
    return toResponse(await this.states.resume(toQueueName(name)));
  }
}

function toResponse({ name, pausedAt }: QueueState): QueueStateResponse {
  return { name, pausedAt: pausedAt?.toISOString() ?? null };
}
