import { Module } from '@nestjs/common';
import { EventStream } from './event-stream.service.js';
import { EventsService } from './events.service.js';

@Module({ providers: [EventsService, EventStream], exports: [EventsService, EventStream] })
export class EventsModule {}
