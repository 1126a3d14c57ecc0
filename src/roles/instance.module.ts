import { Module } from '@nestjs/common';
import { AccountSessions, OPEN_SESSION, type OpenSession } from '../sessions/account-sessions.js';
import { InternalSessionsController } from '../sessions/sessions.internal.js';
import { InternalHealthController } from '../admin/health.internal.js';
import { Account } from '../accounts/account.entity.js';
import { InternalChatsController } from '../chats/chats.internal.js';
import { GroupOperations } from '../chats/group-operations.js';
import { GroupNotices } from '../chats/group-notices.js';
import { GroupsListener } from '../chats/groups.listener.js';
import { SessionAnswerer } from '../chats/session-answerer.js';
import { PacingReservations } from '../pacing/pacing-reservations.js';
import { SandboxClient } from '../accounts/sandbox-client.js';
import { TypeOrmModule } from '@nestjs/typeorm';
import { InstancesModule } from '../instances/instances.module.js';
import { MediaModule } from '../media/media.module.js';
import { MediaDownloader } from '../receiving/media-downloader.js';
import { MessageFiles } from '../sending/message-files.js';
import { IncomingMediaService } from '../messages/incoming-media.service.js';
import { InternalSendingController } from '../sending/sending.internal.js';
import { ActionRunner } from '../receiving/action-runner.js';
import { MessageSender } from '../sending/message-sender.js';
import { LaneRunner } from '../sending/lane-runner.js';
import { OutcomeFinder } from '../receiving/outcome-finder.js';
import { UpdatesService } from '../receiving/updates.service.js';
import { InstanceLease } from '../instances/instance-lease.js';
import { OwnAccounts } from '../sessions/own-accounts.js';
import { SessionSnapshots } from '../sessions/session-snapshots.js';
import { WhatsAppSession } from '../whatsapp/whatsapp-session.js';
import { SessionListener } from '../receiving/session.listener.js';
import { DatabaseModule } from '../platform/database/database.module.js';

/** What an instance drives, and what the other programs may ask of it. */
@Module({
  imports: [DatabaseModule, InstancesModule, MediaModule, TypeOrmModule.forFeature([Account])],
  controllers: [
    InternalHealthController,
    InternalSessionsController,
    InternalSendingController,
    InternalChatsController,
  ],
  providers: [
    InstanceLease,
    OwnAccounts,
    SessionSnapshots,
    SandboxClient,
    { provide: OPEN_SESSION, useValue: ((options) => new WhatsAppSession(options)) satisfies OpenSession },
    AccountSessions,
    PacingReservations,
    MessageFiles,
    MessageSender,
    LaneRunner,
    ActionRunner,
    UpdatesService,
    IncomingMediaService,
    MediaDownloader,
    OutcomeFinder,
    SessionListener,
    GroupOperations,
    SessionAnswerer,
    GroupNotices,
    GroupsListener,
  ],
})
export class InstanceModule {}
