import { Module } from '@nestjs/common';
import { AccountsModule } from '../accounts/accounts.module.js';
import { SessionCaller } from './session-caller.js';
import { ChatsService } from './chats.service.js';
import { GroupsService } from './groups.service.js';

@Module({
  imports: [AccountsModule],
  providers: [SessionCaller, ChatsService, GroupsService],
  exports: [ChatsService, GroupsService],
})
export class ChatsModule {}
