import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { AccountsModule } from '../accounts/accounts.module.js';
import { MediaModule } from '../media/media.module.js';
import { QueuesModule } from '../queues/queues.module.js';
import { WorkspacesModule } from '../workspaces/workspaces.module.js';
import { AcceptService } from './accept.service.js';
import { ContentPreparation } from './content-preparation.js';
import { EndingService } from './ending.service.js';
import { IncomingMediaService } from './incoming-media.service.js';
import { MessageActionsService } from './message-actions.service.js';
import { Message } from './message.entity.js';
import { MessageWaits } from './message-waits.js';
import { MessagesService } from './messages.service.js';
import { RecipientIds } from './recipient-ids.service.js';

@Module({
  imports: [TypeOrmModule.forFeature([Message]), AccountsModule, MediaModule, QueuesModule, WorkspacesModule],
  providers: [
    AcceptService,
    MessagesService,
    MessageWaits,
    ContentPreparation,
    EndingService,
    IncomingMediaService,
    MessageActionsService,
    RecipientIds,
  ],
  exports: [
    AcceptService,
    MessagesService,
    MessageWaits,
    RecipientIds,
    IncomingMediaService,
    MessageActionsService,
    ContentPreparation,
  ],
})
export class MessagesModule {}
