import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { AccountsModule } from '../accounts/accounts.module.js';
import { InstancesModule } from '../instances/instances.module.js';
import { QueuesModule } from '../queues/queues.module.js';
import { MediaModule } from '../media/media.module.js';
import { WorkspacesModule } from '../workspaces/workspaces.module.js';
import { ClearingService } from '../sending/clearing.service.js';
import { LanesService } from '../sending/lanes.service.js';
import { MessageActionsService } from './message-actions.service.js';
import { Message } from './message.entity.js';
import { ContentPreparation } from './content-preparation.js';
import { IncomingMediaService } from './incoming-media.service.js';
import { OutcomesService } from '../receiving/outcomes.service.js';
import { MessagesService } from './messages.service.js';

@Module({
  imports: [
    TypeOrmModule.forFeature([Message]),
    AccountsModule,
    InstancesModule,
    MediaModule,
    QueuesModule,
    WorkspacesModule,
  ],
  providers: [
    MessagesService,
    ContentPreparation,
    IncomingMediaService,
    MessageActionsService,
    LanesService,
    OutcomesService,
    ClearingService,
  ],
  exports: [
    MessagesService,
    IncomingMediaService,
    MessageActionsService,
    LanesService,
    OutcomesService,
    ClearingService,
    QueuesModule,
  ],
})
export class MessagesModule {}
