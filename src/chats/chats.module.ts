import { Module } from '@nestjs/common';
import { AccountsModule } from '../accounts/accounts.module.js';
import { MessagesModule } from '../messages/messages.module.js';
import { RemoteSession } from './remote-session.js';
import { ChatsService } from './chats.service.js';
import { GroupsService } from './groups.service.js';

@Module({
  imports: [AccountsModule, MessagesModule],
  providers: [RemoteSession, ChatsService, GroupsService],
  exports: [ChatsService, GroupsService],
})
export class ChatsModule {}
