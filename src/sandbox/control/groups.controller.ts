import {
  Body,
  ConflictException,
  Controller,
  Delete,
  Get,
  HttpCode,
  Param,
  Patch,
  Post,
} from '@nestjs/common';
import { given } from '../../platform/database/given.js';
import { digitsOf } from '../addresses.js';
import type { Group, GroupAction, GroupResult } from '../network/group.js';
import { GroupActions } from '../network/group-actions.js';
import { GroupRegistry } from '../network/groups.js';
import { PhoneRegistry } from '../network/phones.js';
import { PictureStore } from '../network/pictures.js';
import {
  ChangeGroupDto,
  ChangeMembersDto,
  CreateGroupDto,
  GroupMemberDto,
  JoinGroupDto,
} from './groups.dto.js';

/** The simulated groups: a caller acts as the owners of the phones. */
@Controller('groups')
export class SandboxGroupsController {
  constructor(
    private readonly groups: GroupRegistry,
    private readonly groupActions: GroupActions,
    private readonly phones: PhoneRegistry,
    private readonly pictures: PictureStore,
  ) {}

  @Post()
  async create(@Body() { owner, subject, participants }: CreateGroupDto): Promise<Group> {
    const { phone } = this.phones.require(owner);
    const phones = (participants ?? []).map(digitsOf);
    const { group } = await this.act(phone, { kind: 'create', subject, phones });
    return this.groups.require(group!.id);
  }

  @Get()
  list(): { items: Group[]; nextCursor: null } {
    return { items: this.groups.list(), nextCursor: null };
  }

  @Get(':id')
  get(@Param('id') id: string): Group {
    return this.groups.require(id);
  }

  /** Changes the subject, description, picture or settings of a group. */
  @Patch(':id')
  async change(
    @Param('id') id: string,
    @Body() { by, picture: base64, ...settings }: ChangeGroupDto,
  ): Promise<Group> {
    const { owner } = this.groups.require(id);
    const picture = base64 ? await this.pictures.save(base64) : base64;
    const changes = given({ ...settings, picture });
    await this.act(by === undefined ? owner : digitsOf(by), { kind: 'set', group: id, settings: changes });
    return this.groups.require(id);
  }

  /** Adds, removes, promotes or demotes members. */
  @Post(':id/members')
  @HttpCode(200)
  async changeMembers(
    @Param('id') id: string,
    @Body() { by, change, participants }: ChangeMembersDto,
  ): Promise<GroupResult> {
    const { owner } = this.groups.require(id);
    const phones = participants.map(digitsOf);
    return this.act(by === undefined ? owner : digitsOf(by), { kind: change, group: id, phones });
  }

  /** The owner of a phone accepts an invite. */
  @Post('join')
  @HttpCode(200)
  async join(@Body() { phone, code, group }: JoinGroupDto): Promise<GroupResult> {
    const { phone: by } = this.phones.require(phone);
    return this.act(
      by,
      group === undefined ? { kind: 'join', code } : { kind: 'accept-invite', group, code },
    );
  }

  /** The owner of a phone asks to join, as people do in groups with approval. The admins see the request. */
  @Post(':id/requests')
  @HttpCode(200)
  async request(@Param('id') id: string, @Body() { phone }: GroupMemberDto): Promise<GroupResult> {
    const by = this.phones.require(phone).phone;
    return allowed(by, await this.groupActions.ask(by, this.groups.require(id)));
  }

  /** The owner of a phone takes the request to join back. */
  @Delete(':id/requests/:phone')
  async withdraw(@Param('id') id: string, @Param('phone') phone: string): Promise<GroupResult> {
    const by = digitsOf(phone);
    return allowed(by, await this.groupActions.withdraw(by, this.groups.require(id)));
  }

  @Post(':id/leave')
  @HttpCode(200)
  async leave(@Param('id') id: string, @Body() { phone }: GroupMemberDto): Promise<GroupResult> {
    return this.act(digitsOf(phone), { kind: 'leave', group: id });
  }

  private async act(by: string, action: GroupAction): Promise<GroupResult> {
    return allowed(by, await this.groupActions.apply(by, action));
  }
}

function allowed(by: string, result: GroupResult): GroupResult {
  if (result.status !== 200)
    throw new ConflictException(`WhatsApp does not allow ${by} to do that (${result.status}).`);
  return result;
}
