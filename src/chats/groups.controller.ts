import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query, Res } from '@nestjs/common';
import { ApiOkResponse, ApiProduces } from '@nestjs/swagger';
import type { Response } from 'express';
import { Fails, Paged } from '../platform/http/documentation.js';
import type { Page } from '../platform/http/pagination.js';
import { UuidPipe } from '../platform/http/uuid.pipe.js';
import { Allow, MayLink, WorkspaceId } from '../workspaces/auth.guard.js';
import { GroupIdPipe } from './chat-id.pipe.js';
import { PageListQuery } from './chats.dto.js';
import { ChatsService } from './chats.service.js';
import {
  CreatedGroupResponse,
  CreateGroupDto,
  GroupResponse,
  GroupSummary,
  InviteResponse,
  JoinGroupDto,
  ParticipantsDto,
  ParticipantsResponse,
  UpdateGroupDto,
} from './groups.dto.js';
import { GroupsService } from './groups.service.js';
import {
  GroupNotFound,
  GroupRefused,
  InviteInvalid,
  NoPicture,
  NotGroupAdmin,
  NotInGroup,
  chatProblems,
  PictureTooLarge,
} from './chat-errors.js';
import { sendPicture } from './pictures.js';

const changeProblems = [
  ...chatProblems,
  GroupNotFound,
  NotInGroup,
  NotGroupAdmin,
  new GroupRefused('change the group'),
];

/** The groups of an account. Viewers may read them, owners may administer them. */
@Controller('accounts/:id/groups')
export class GroupsController {
  constructor(
    private readonly groups: GroupsService,
    private readonly chats: ChatsService,
  ) {}

  /** Lists the groups of the account, in the order of their ids. */
  @Allow('viewer')
  @Fails(...chatProblems)
  @Paged(GroupSummary)
  @Get()
  async list(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Query() query: PageListQuery,
  ): Promise<Page<GroupSummary>> {
    return this.groups.list(workspaceId, id, query);
  }

  /** Creates a group. If a participant cannot be added, `results` gives the reason. */
  @Allow('owner')
  @Fails(...chatProblems, new GroupRefused('make the group'))
  @Post()
  async create(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Body() body: CreateGroupDto,
  ): Promise<CreatedGroupResponse> {
    return this.groups.create(workspaceId, id, body);
  }

  /** Joins a group by an invite. It also succeeds if the account is already in the group. */
  @Allow('owner')
  @Fails(...chatProblems, InviteInvalid, new GroupRefused('let the account into the group'))
  @Post('join')
  @HttpCode(200)
  async join(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Body() { code }: JoinGroupDto,
  ): Promise<GroupResponse> {
    return this.groups.join(workspaceId, id, code);
  }

  /** Reads a group with its participants. Only keys with the role `owner` see the invite code. */
  @Allow('viewer')
  @Fails(...chatProblems, GroupNotFound)
  @Get(':groupId')
  async get(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('groupId', GroupIdPipe) groupId: string,
    @MayLink() isOwner: boolean,
  ): Promise<GroupResponse> {
    return this.groups.get(workspaceId, id, groupId, isOwner);
  }

  /** Changes the subject, the description and the settings. Fields that are left out stay as they are. */
  @Allow('owner')
  @Fails(...changeProblems)
  @Patch(':groupId')
  async update(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('groupId', GroupIdPipe) groupId: string,
    @Body() body: UpdateGroupDto,
  ): Promise<GroupResponse> {
    return this.groups.update(workspaceId, id, groupId, body);
  }

  /** Adds participants. The answer has a result for each. */
  @Allow('owner')
  @Fails(...changeProblems)
  @Post(':groupId/participants')
  @HttpCode(200)
  async add(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('groupId', GroupIdPipe) groupId: string,
    @Body() { participants }: ParticipantsDto,
  ): Promise<ParticipantsResponse> {
    return this.groups.changeParticipants(workspaceId, id, groupId, 'add', participants);
  }

  /** Removes participants. Each has a result of its own. */
  @Allow('owner')
  @Fails(...changeProblems)
  @Delete(':groupId/participants')
  @HttpCode(200)
  async remove(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('groupId', GroupIdPipe) groupId: string,
    @Body() { participants }: ParticipantsDto,
  ): Promise<ParticipantsResponse> {
    return this.groups.changeParticipants(workspaceId, id, groupId, 'remove', participants);
  }

  /** Makes participants admins. */
  @Allow('owner')
  @Fails(...changeProblems)
  @Post(':groupId/participants/promote')
  @HttpCode(200)
  async promote(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('groupId', GroupIdPipe) groupId: string,
    @Body() { participants }: ParticipantsDto,
  ): Promise<ParticipantsResponse> {
    return this.groups.changeParticipants(workspaceId, id, groupId, 'promote', participants);
  }

  /** Makes admins normal participants. */
  @Allow('owner')
  @Fails(...changeProblems)
  @Post(':groupId/participants/demote')
  @HttpCode(200)
  async demote(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('groupId', GroupIdPipe) groupId: string,
    @Body() { participants }: ParticipantsDto,
  ): Promise<ParticipantsResponse> {
    return this.groups.changeParticipants(workspaceId, id, groupId, 'demote', participants);
  }

  /** Reads the invite. Everybody who has it can join the group. The account must be an admin of the group. */
  @Allow('owner')
  @Fails(...changeProblems)
  @Get(':groupId/invite')
  async invite(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('groupId', GroupIdPipe) groupId: string,
  ): Promise<InviteResponse> {
    return this.groups.invite(workspaceId, id, groupId, false);
  }

  /** Revokes the invite. The answer is the new invite. */
  @Allow('owner')
  @Fails(...changeProblems)
  @Delete(':groupId/invite')
  @HttpCode(200)
  async resetInvite(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('groupId', GroupIdPipe) groupId: string,
  ): Promise<InviteResponse> {
    return this.groups.invite(workspaceId, id, groupId, true);
  }

  /** Leaves a group. */
  @Allow('owner')
  @Fails(...chatProblems, GroupNotFound, NotInGroup, new GroupRefused('leave the group'))
  @Post(':groupId/leave')
  @HttpCode(204)
  async leave(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('groupId', GroupIdPipe) groupId: string,
  ): Promise<void> {
    await this.groups.leave(workspaceId, id, groupId);
  }

  /** Reads the picture of a group. */
  @Allow('viewer')
  @Fails(...chatProblems, GroupNotFound, new NoPicture(true), PictureTooLarge)
  @Get(':groupId/picture')
  @ApiProduces('image/jpeg', 'image/png', 'image/webp')
  @ApiOkResponse({ schema: { type: 'string', format: 'binary' } })
  async picture(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Param('groupId', GroupIdPipe) groupId: string,
    @Res() response: Response,
  ): Promise<void> {
    const { type, bytes } = await this.chats.picture(workspaceId, id, groupId);
    sendPicture(response, type, bytes);
  }
}
