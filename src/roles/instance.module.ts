import { Module } from '@nestjs/common';
import { AccountSessions, OPEN_SESSION, type OpenSession } from '../accounts/account-sessions.service.js';
import { AccountsModule } from '../accounts/accounts.module.js';
import { InstanceAccountsController } from '../accounts/instance-accounts.controller.js';
import { InstanceHealthController } from '../admin/instance-health.controller.js';
import { InstancesModule } from '../instances/instances.module.js';
import { InstanceMessagesController } from '../messages/instance-messages.controller.js';
import { MessageSender } from '../messages/message-sender.service.js';
import { ReceivedService } from '../messages/received.service.js';
import { InstanceLease } from '../instances/instance-lease.service.js';
import { SessionSnapshots } from '../accounts/session-snapshots.service.js';
import { WhatsAppSession } from '../whatsapp/whatsapp-session.js';
import { SessionListener } from '../messages/session.listener.js';
import { DatabaseModule } from '../platform/database/database.module.js';

/** What an instance drives, and what the other programs may ask of it. */
@Module({
  imports: [DatabaseModule, InstancesModule, AccountsModule],
  controllers: [InstanceHealthController, InstanceAccountsController, InstanceMessagesController],
  providers: [
    InstanceLease,
    SessionSnapshots,
    { provide: OPEN_SESSION, useValue: ((options) => new WhatsAppSession(options)) satisfies OpenSession },
    AccountSessions,
    MessageSender,
    ReceivedService,
    SessionListener,
  ],
})
export class InstanceModule {}
