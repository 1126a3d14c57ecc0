import { Module, type OnApplicationBootstrap } from '@nestjs/common';
import { InternalHealthController } from '../admin/health.internal.js';
import { OptOutService } from '../campaigns/opt-out.service.js';
import { SuppressionsService } from '../campaigns/suppressions.service.js';
import { InternalChatsController } from '../chats/chats.internal.js';
import { GroupNotices } from '../chats/group-notices.js';
import { GroupOperations } from '../chats/group-operations.js';
import { GroupsListener } from '../chats/groups.listener.js';
import { PresenceListener } from '../chats/presence.listener.js';
import { PresenceLog } from '../chats/presence-log.js';
import { CallDispatcher } from '../chats/call-dispatcher.js';
import { InstancesModule } from '../instances/instances.module.js';
import { StatsSampler } from '../instances/stats-sampler.js';
import { MediaModule } from '../media/media.module.js';
import { IncomingMediaService } from '../messages/incoming-media.service.js';
import { RecipientIds } from '../messages/recipient-ids.service.js';
import { DatabaseModule } from '../platform/database/database.module.js';
import { ActionRunner } from '../receiving/action-runner.js';
import { IncomingService } from '../receiving/incoming.service.js';
import { MediaDownloader } from '../receiving/media-downloader.js';
import { OutcomeFinder } from '../receiving/outcome-finder.js';
import { PhoneCalls } from '../receiving/phone-calls.js';
import { PhoneCallsListener } from '../receiving/phone-calls.listener.js';
import { InternalReceivingController } from '../receiving/receiving.internal.js';
import { SessionListener } from '../receiving/session.listener.js';
import { UpdatesService } from '../receiving/updates.service.js';
import { LaneRunner } from '../sending/lane-runner.js';
import { MessageFiles } from '../sending/message-files.js';
import { MessageSender } from '../sending/message-sender.js';
import { PacingReservations } from '../sending/pacing-reservations.js';
import { RecipientChecks } from '../sending/recipient-checks.js';
import { InternalSendingController } from '../sending/sending.internal.js';
import { AccountSessions } from '../sessions/account-sessions.js';
import { InternalSessionsController } from '../sessions/sessions.internal.js';
import { SessionsModule } from '../sessions/sessions.module.js';
import { WhatsAppSession } from '../whatsapp/whatsapp-session.js';

/** The accounts that an instance drives, and its internal HTTP for the other programs. */
@Module({
  imports: [
    DatabaseModule,
    InstancesModule,
    MediaModule,
    SessionsModule.using((options) => new WhatsAppSession(options)),
  ],
  controllers: [
    InternalHealthController,
    InternalSessionsController,
    InternalSendingController,
    InternalReceivingController,
    InternalChatsController,
  ],
  providers: [
    PacingReservations,
    MessageFiles,
    RecipientChecks,
    RecipientIds,
    MessageSender,
    LaneRunner,
    ActionRunner,
    UpdatesService,
    IncomingService,
    SuppressionsService,
    OptOutService,
    IncomingMediaService,
    MediaDownloader,
    OutcomeFinder,
    SessionListener,
    PhoneCalls,
    PhoneCallsListener,
    GroupOperations,
    CallDispatcher,
    GroupNotices,
    GroupsListener,
    PresenceLog,
    PresenceListener,
  ],
})
export class InstanceModule implements OnApplicationBootstrap {
  constructor(
    private readonly sampler: StatsSampler,
    private readonly sessions: AccountSessions,
    private readonly sender: MessageSender,
  ) {}

  /** Starts the statistics sampler of this instance. */
  onApplicationBootstrap(): void {
    this.sampler.start(() => ({
      accounts: this.sessions.counts.total,
      connected: this.sessions.counts.ready,
      memoryBytes: this.sessions.memoryBytes,
      sends: this.sender.meter.read(),
    }));
  }
}
