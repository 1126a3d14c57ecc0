import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { AccountsModule } from '../accounts/accounts.module.js';
import { InstancesModule } from '../instances/instances.module.js';
import { QueuesModule } from '../queues/queues.module.js';
import { LanesService } from './lanes.service.js';
import { MessageActionsService } from './message-actions.service.js';
import { Message } from './message.entity.js';
import { MessagesService } from './messages.service.js';

@Module({
  imports: [TypeOrmModule.forFeature([Message]), AccountsModule, InstancesModule, QueuesModule],
  providers: [MessagesService, MessageActionsService, LanesService],
  exports: [MessagesService, MessageActionsService, LanesService, QueuesModule],
})
export class MessagesModule {}
