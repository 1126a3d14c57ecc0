import {
  Body,
  Controller,
  Delete,
  Get,
  Headers,
  HttpCode,
  Param,
  Patch,
  Post,
  Query,
  Res,
} from '@nestjs/common';
import { ApiExtraModels, ApiOkResponse, getSchemaPath } from '@nestjs/swagger';
import type { Response } from 'express';
import { InstanceAnswerLost, InstanceRefused, InstanceUnreachable } from '../instances/instance-client.js';
import { InstanceNotFound } from '../instances/instances.service.js';
import { Fails, Paged } from '../platform/http/documentation.js';
import { AddressNotPublic } from '../platform/http/public-fetch.js';
import { LogPageQuery, type Page, toPage } from '../platform/http/pagination.js';
import { UuidPipe } from '../platform/http/uuid.pipe.js';
import { Allow, WorkspaceId } from '../workspaces/auth.guard.js';
import { AccountLimitReached } from '../workspaces/limits.service.js';
import {
  AccountResponse,
  ConnectAccountDto,
  ConnectionLogEntry,
  CreateAccountDto,
  ListAccountsQuery,
  MigrateAccountDto,
  PairingCodeResponse,
  QrResponse,
  SandboxScanDto,
  SandboxScanResponse,
  toAccountResponse,
  UpdateAccountDto,
} from './accounts.dto.js';
import { AccountNotFound, LogoutNotConfirmed, sessionProblems } from './account-errors.js';
import type { Account } from './account.entity.js';
import { AccountsService, NoPairingCode, NoQr, NotASandboxAccount } from './accounts.service.js';
import { NoRoom, SessionNotPortable } from './assignments.service.js';
import {
  SandboxBroken,
  SandboxOff,
  SandboxPhoneNotFound,
  SandboxRefused,
  SandboxUnreachable,
} from './sandbox-client.js';
import { ConnectionLogsService } from './connection-logs.service.js';
import { ColdNotPaused, PacingService } from '../pacing/pacing.service.js';

@Controller('accounts')
export class AccountsController {
  constructor(
    private readonly accounts: AccountsService,
    private readonly connections: ConnectionLogsService,
    private readonly pacing: PacingService,
  ) {}

  /** Creates an account. Connect it to get a QR code or a pairing code. */
  @Allow('owner')
  @Fails(InstanceNotFound, AccountLimitReached, AddressNotPublic, SandboxOff)
  @Post()
  async create(@WorkspaceId() workspaceId: string, @Body() body: CreateAccountDto): Promise<AccountResponse> {
    return this.respond(await this.accounts.create(workspaceId, body));
  }

  /** Lists accounts, newest first. */
  @Allow('viewer')
  @Paged(AccountResponse)
  @Get()
  async list(
    @WorkspaceId() workspaceId: string,
    @Query() query: ListAccountsQuery,
  ): Promise<Page<AccountResponse>> {
    const accounts = await this.accounts.list(workspaceId, query);
    const sending = await this.pacing.describe(accounts.map(({ id }) => id));
    // An account may have been deleted between the two queries.
    const present = accounts.filter(({ id }) => sending.has(id));
    return toPage(present, query.limit, (account) => toAccountResponse(account, sending.get(account.id)!));
  }

  /** Gets one account: its desired state, its status, and when it may send next. */
  @Allow('viewer')
  @Fails(AccountNotFound)
  @Get(':id')
  async get(@WorkspaceId() workspaceId: string, @Param('id', UuidPipe) id: string): Promise<AccountResponse> {
    return this.respond(await this.accounts.get(workspaceId, id));
  }

  /** Changes the given fields. The other fields stay as they are. */
  @Allow('owner')
  @Fails(AccountNotFound, AddressNotPublic)
  @Patch(':id')
  async update(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Body() body: UpdateAccountDto,
  ): Promise<AccountResponse> {
    return this.respond(await this.accounts.update(workspaceId, id, body));
  }

  /** Deletes an account with its messages. If the account is ready, Flotilla logs it out first. */
  @Allow('owner')
  @Fails(AccountNotFound, InstanceUnreachable, InstanceRefused, InstanceAnswerLost, LogoutNotConfirmed)
  @Delete(':id')
  @HttpCode(204)
  async delete(@WorkspaceId() workspaceId: string, @Param('id', UuidPipe) id: string): Promise<void> {
    await this.accounts.delete(workspaceId, id);
  }

  /**
   * Connects an account: restores its session, or requests a QR code or a pairing code. If the contract of its page is
   * `broken`, the page is loaded again.
   */
  @Allow('owner')
  @Fails(...sessionProblems, SandboxOff)
  @Post(':id/connect')
  @HttpCode(202)
  async connect(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Body() body: ConnectAccountDto = new ConnectAccountDto(),
  ): Promise<AccountResponse> {
    return this.respond(await this.accounts.connect(workspaceId, id, body));
  }

  /** Gets the current QR code, as text and image. With `Accept: image/png`, the answer is the PNG itself. */
  @Allow('owner')
  @Fails(AccountNotFound, NoQr)
  @ApiOkResponse({
    content: {
      'application/json': { schema: { $ref: getSchemaPath(QrResponse) } },
      'image/png': { schema: { type: 'string', format: 'binary' } },
    },
  })
  @ApiExtraModels(QrResponse)
  @Get(':id/qr')
  async qr(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Headers('accept') accept: string | undefined,
    @Res() response: Response,
  ): Promise<void> {
    const { qr, png, expiresAt } = await this.accounts.qr(workspaceId, id);
    response.set('Cache-Control', 'no-store');
    if (accept?.includes('image/png')) {
      response.type('image/png').send(png);
      return;
    }
    response.json({
      qr,
      image: `data:image/png;base64,${png.toString('base64')}`,
      expiresAt: expiresAt.toISOString(),
    });
  }

  /** Gets the current pairing code, to type into the phone. */
  @Allow('owner')
  @Fails(AccountNotFound, NoPairingCode)
  @Get(':id/pairing-code')
  async pairingCode(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
  ): Promise<PairingCodeResponse> {
    const { code, expiresAt } = await this.accounts.pairingCode(workspaceId, id);
    return { code, expiresAt: expiresAt.toISOString() };
  }

  /** Stops the session. The account stays linked. */
  @Allow('owner')
  @Fails(AccountNotFound)
  @Post(':id/disconnect')
  @HttpCode(202)
  async disconnect(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
  ): Promise<AccountResponse> {
    return this.respond(await this.accounts.disconnect(workspaceId, id));
  }

  /** Closes the account's browser and starts it again. */
  @Allow('owner')
  @Fails(...sessionProblems, SandboxOff)
  @Post(':id/restart')
  @HttpCode(202)
  async restart(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
  ): Promise<AccountResponse> {
    return this.respond(await this.accounts.restart(workspaceId, id));
  }

  /** Ends the cool-down early: messages to contacts that have never written may leave again. */
  @Allow('owner')
  @Fails(AccountNotFound, ColdNotPaused)
  @Post(':id/resume-cold')
  @HttpCode(200)
  async resumeCold(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
  ): Promise<AccountResponse> {
    return this.respond(await this.accounts.resumeCold(workspaceId, id));
  }

  /** Moves the account to another instance, together with its session. */
  @Allow('owner')
  @Fails(AccountNotFound, InstanceNotFound, new NoRoom(undefined), new NoRoom('…'), SessionNotPortable)
  @Post(':id/migrate')
  @HttpCode(202)
  async migrate(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Body() body: MigrateAccountDto = new MigrateAccountDto(),
  ): Promise<AccountResponse> {
    return this.respond(await this.accounts.migrate(workspaceId, id, body.instanceId));
  }

  /** Unlinks the account at WhatsApp. To connect it again, a new QR code or pairing code is needed. */
  @Allow('owner')
  @Fails(...sessionProblems, LogoutNotConfirmed)
  @Post(':id/logout')
  @HttpCode(202)
  async logout(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
  ): Promise<AccountResponse> {
    return this.respond(await this.accounts.logout(workspaceId, id));
  }

  /**
   * Scans the QR code of a sandbox account with a simulated phone. Without a number, the sandbox makes a new phone. A phone
   * belongs to the workspace that first linked it.
   */
  @Allow('owner')
  @Fails(
    AccountNotFound,
    NotASandboxAccount,
    NoQr,
    SandboxOff,
    SandboxPhoneNotFound,
    SandboxUnreachable,
    new SandboxRefused('The QR code is no longer shown.'),
    SandboxBroken,
  )
  @Post(':id/sandbox-scan')
  @HttpCode(200)
  async sandboxScan(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Body() body: SandboxScanDto = new SandboxScanDto(),
  ): Promise<SandboxScanResponse> {
    return this.accounts.sandboxScan(workspaceId, id, body.phone);
  }

  /** Lists the connection log, newest first. */
  @Allow('viewer')
  @Fails(AccountNotFound)
  @Paged(ConnectionLogEntry)
  @Get(':id/events')
  async log(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Query() query: LogPageQuery,
  ): Promise<Page<ConnectionLogEntry>> {
    return toPage(
      await this.connections.list(workspaceId, id, query.limit, query.cursor),
      query.limit,
      (row) => row,
    );
  }

  /** Takes a screenshot of the account's browser, as a PNG. */
  @Allow('owner')
  @Fails(...sessionProblems)
  @ApiOkResponse({ content: { 'image/png': { schema: { type: 'string', format: 'binary' } } } })
  @Get(':id/screenshot')
  async screenshot(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Res() response: Response,
  ): Promise<void> {
    const png = await this.accounts.screenshot(workspaceId, id);
    response.set('Cache-Control', 'no-store').type('image/png').send(png);
  }

  private async respond(account: Account): Promise<AccountResponse> {
    const sending = (await this.pacing.describe([account.id])).get(account.id);
    if (!sending) throw new AccountNotFound(account.id);
    return toAccountResponse(account, sending);
  }
}
