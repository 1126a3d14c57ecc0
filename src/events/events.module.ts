import { Module } from '@nestjs/common';
import { WorkspacesModule } from '../workspaces/workspaces.module.js';
import { EventStream } from './event-stream.js';
import { EventsService } from './events.service.js';

@Module({
  imports: [WorkspacesModule],
  providers: [EventsService, EventStream],
  exports: [EventsService, EventStream],
})
export class EventsModule {}
