import { Module } from '@nestjs/common';
import { BacklogService } from '../admin/backlog.service.js';
import { KeyRotationService } from '../admin/key-rotation.service.js';
import { RetryingService } from '../admin/retrying.service.js';
import { CampaignsModule } from '../campaigns/campaigns.module.js';
import { MediaModule } from '../media/media.module.js';
import { MessagesModule } from '../messages/messages.module.js';
import { SendingModule } from '../sending/sending.module.js';
import { CommandDatabaseModule } from '../platform/database/command-database.module.js';
import { WebhooksModule } from '../webhooks/webhooks.module.js';

/** What commands use. */
@Module({
  imports: [
    CommandDatabaseModule,
    MessagesModule,
    SendingModule,
    WebhooksModule,
    MediaModule,
    CampaignsModule,
  ],
  providers: [BacklogService, RetryingService, KeyRotationService],
})
export class CliModule {}
