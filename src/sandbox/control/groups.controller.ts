import { Body, ConflictException, Controller, Get, HttpCode, Param, Patch, Post } from '@nestjs/common';
import { given } from '../../platform/database/given.js';
import type { GroupAction, GroupResult } from '../wire-types.js';
import {
  ChangeGroupDto,
  ChangeMembersDto,
  CreateGroupDto,
  GroupMemberDto,
  JoinGroupDto,
} from './groups.dto.js';
import type { Group } from '../network/groups.js';
import { digitsOf } from '../network/phones.js';
import { SandboxServer } from '../wire/server.js';

/** The simulated groups, in the hands of the owners of the phones. */
@Controller('groups')
export class SandboxGroupsController {
  constructor(private readonly sandbox: SandboxServer) {}

  @Post()
  async create(@Body() { owner, subject, participants }: CreateGroupDto): Promise<Group> {
    const { phone } = this.sandbox.network.phones.require(owner);
    const phones = (participants ?? []).map(digitsOf);
    const { group } = await this.do(phone, { kind: 'create', subject, phones });
    return this.sandbox.network.groups.require(group!.id);
  }

  @Get()
  list(): { items: Group[]; nextCursor: null } {
    return { items: this.sandbox.network.groups.list(), nextCursor: null };
  }

  @Get(':id')
  get(@Param('id') id: string): Group {
    return this.sandbox.network.groups.require(id);
  }

  /** Changes its subject, description, picture or settings. */
  @Patch(':id')
  async change(
    @Param('id') id: string,
    @Body() { by, picture, ...settings }: ChangeGroupDto,
  ): Promise<Group> {
    const { groups, pictures } = this.sandbox.network;
    const { owner } = groups.require(id);
    const kept = picture ? await pictures.save(picture) : picture;
    const changes = given({ ...settings, picture: kept });
    await this.do(by === undefined ? owner : digitsOf(by), { kind: 'set', group: id, settings: changes });
    return groups.require(id);
  }

  /** Adds, removes, promotes or demotes members. */
  @Post(':id/members')
  @HttpCode(200)
  async changeMembers(
    @Param('id') id: string,
    @Body() { by, change, participants }: ChangeMembersDto,
  ): Promise<GroupResult> {
    const { owner } = this.sandbox.network.groups.require(id);
    const phones = participants.map(digitsOf);
    return this.do(by === undefined ? owner : digitsOf(by), { kind: change, group: id, phones });
  }

  /** A phone's owner follows an invite. */
  @Post('join')
  @HttpCode(200)
  async join(@Body() { phone, code }: JoinGroupDto): Promise<GroupResult> {
    return this.do(this.sandbox.network.phones.require(phone).phone, { kind: 'join', code });
  }

  @Post(':id/leave')
  @HttpCode(200)
  async leave(@Param('id') id: string, @Body() { phone }: GroupMemberDto): Promise<GroupResult> {
    return this.do(digitsOf(phone), { kind: 'leave', group: id });
  }

  private async do(by: string, deed: GroupAction): Promise<GroupResult> {
    const result = await this.sandbox.network.groupActions.apply(by, deed);
    if (result.status !== 200)
      throw new ConflictException(`WhatsApp refuses to let ${by} do that (${result.status}).`);
    return result;
  }
}
