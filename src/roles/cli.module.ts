import { Module } from '@nestjs/common';
import { BacklogService } from '../admin/backlog.service.js';
import { RetryingService } from '../admin/retrying.service.js';
import { MessagesModule } from '../messages/messages.module.js';
import { CommandDatabaseModule } from '../platform/database/command-database.module.js';
import { WebhooksModule } from '../webhooks/webhooks.module.js';

/** What commands use. */
@Module({
  imports: [CommandDatabaseModule, MessagesModule, WebhooksModule],
  providers: [BacklogService, RetryingService],
})
export class CliModule {}
