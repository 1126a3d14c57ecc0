import { Controller, Get } from '@nestjs/common';
import { InstancesService } from '../instances/instances.service.js';
import { Allow } from '../workspaces/auth.guard.js';
import { BacklogService, type QueueBacklog } from './backlog.service.js';

/** What an operator looks at. */
@Allow('admin')
@Controller('admin')
export class AdminController {
  constructor(
    private readonly instances: InstancesService,
    private readonly backlog: BacklogService,
  ) {}

  @Get('instances')
  async listInstances(): Promise<{ items: object[]; nextCursor: null }> {
    const items = (await this.instances.list()).map((instance) => ({
      id: instance.id,
      serverId: instance.serverId,
      url: instance.url,
      pid: instance.pid,
      version: instance.version,
      status: instance.leaseExpiresAt.getTime() > Date.now() ? instance.status : 'down',
      leaseExpiresAt: instance.leaseExpiresAt.toISOString(),
      maxAccounts: instance.maxAccounts,
      reserved: instance.reserved,
      connected: instance.connected,
      memoryBytes: Number(instance.memoryBytes),
      startedAt: instance.startedAt.toISOString(),
    }));
    return { items, nextCursor: null };
  }

  /** How evenly the accounts lie on the instances. */
  @Get('distribution')
  async distribution(): Promise<object> {
    return this.instances.distribution();
  }

  /** The queues: what Redis holds, and the backlog that PostgreSQL holds. */
  @Get('queues')
  async queues(): Promise<{ items: QueueBacklog[]; nextCursor: null }> {
    return { items: await this.backlog.read(), nextCursor: null };
  }
}
