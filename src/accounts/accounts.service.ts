import { Injectable } from '@nestjs/common';
import { InjectDataSource, InjectRepository } from '@nestjs/typeorm';
import QRCode from 'qrcode';
import { DataSource, type EntityManager, LessThan, Not, Repository } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { InstanceClient } from '../instances/instance-client.js';
import { InstancesService } from '../instances/instances.service.js';
import { Problem, ValidationFailed } from '../platform/errors/problem.js';
import { given } from '../platform/database/given.js';
import { asPlatform } from '../platform/context.js';
import { parsePhoneNumber, phoneNumberHint } from '../platform/http/phone-number.js';
import { AccountNotFound, AccountNotReady, SessionChanging, sessionChangingCodes } from './account-errors.js';
import { Account, type AccountStatus, drivenStatuses, type Receive } from './account.entity.js';
import type {
  ConnectAccountDto,
  CreateAccountDto,
  ListAccountsQuery,
  UpdateAccountDto,
} from './accounts.dto.js';
import { AccountLimitReached, LimitsService } from '../workspaces/limits.service.js';
import { WorkspacesService } from '../workspaces/workspaces.service.js';
import { AccountProxies } from './account-proxies.js';
import { AssignmentsService } from './assignments.service.js';
import { PacingService } from '../pacing/pacing.service.js';
import { SandboxClient, SandboxPhoneNotFound } from './sandbox-client.js';

export class NoQr extends Problem {
  constructor(account: Account) {
    super(
      409,
      'account.no_qr',
      `There is no QR code now: the account is ${account.status}. ${
        account.status === 'ready'
          ? `To link it again, log it out first: POST /accounts/${account.id}/logout.`
          : `Request a QR code: POST /accounts/${account.id}/connect.`
      }`,
    );
  }
}

export class NoPairingCode extends Problem {
  constructor(account: Account) {
    super(
      409,
      'account.no_pairing_code',
      `There is no pairing code now: the account is ${account.status}. Connect it with {"method": "code", "phoneNumber": "…"}: POST /accounts/${account.id}/connect.`,
    );
  }
}

export class NotASandboxAccount extends Problem {
  constructor() {
    super(
      409,
      'account.not_sandbox',
      'A simulated phone can only link an account with environment "sandbox". Scan the QR code of a live account with a real phone.',
    );
  }
}

/** Ends some of what an account is doing. Returns whether there may be more. */
type EndSome = (manager: EntityManager, workspaceId: string, accountId: string) => Promise<boolean>;

/** How long an instance may take to answer: longer than a page may take. */
const sessionTimeoutMs = 30_000;

/** Stories and posts of channels are not messages to the account. */
const receiveNothingMore: Receive = { stories: false, channels: false };

/** The statuses of a session that runs or is starting: connecting again changes nothing. */
const connectingOrConnected = new Set<AccountStatus>([...drivenStatuses, 'reconnecting']);

/** What the owner of an account may do with it. The instance that drives the account writes its status. */
@Injectable()
export class AccountsService {
  private readonly beforeDelete: EndSome[] = [];

  constructor(
    @InjectRepository(Account) private readonly accounts: Repository<Account>,
    @InjectDataSource() private readonly database: DataSource,
    private readonly instances: InstancesService,
    private readonly assignments: AssignmentsService,
    private readonly instanceClient: InstanceClient,
    private readonly sandbox: SandboxClient,
    private readonly pacing: PacingService,
    private readonly proxies: AccountProxies,
    limits: LimitsService,
    workspaces: WorkspacesService,
  ) {
    limits.onUsage(async (workspaceId) => ({ accounts: await this.accounts.countBy({ workspaceId }) }));
    workspaces.onDelete((workspaceId) => this.deleteAll(workspaceId));
  }

  /**
   * Creates an account.
   * @throws InstanceNotFound if a named instance does not exist; AccountLimitReached; SandboxOff; ValidationFailed or AddressNotPublic
   * for a proxy that cannot be used
   */
  async create(workspaceId: string, wanted: CreateAccountDto): Promise<Account> {
    if (wanted.environment === 'sandbox') this.sandbox.requireOn();
    if (wanted.instanceId !== undefined) await this.instances.get(wanted.instanceId);
    const id = uuidv7();
    await this.database.transaction(async (manager) => {
      await assertBelowLimit(manager, workspaceId);
      await manager.insert(Account, {
        id,
        workspaceId,
        name: wanted.name,
        environment: wanted.environment,
        labels: wanted.labels ?? [],
        pacing: wanted.pacing ?? null,
        receive: { ...receiveNothingMore, ...given({ ...wanted.receive }) },
        autoRead: wanted.autoRead ?? false,
        rejectCalls: wanted.rejectCalls ?? false,
        callAnswer: wanted.callAnswer ?? null,
        ...this.proxies.columns(id, wanted.proxyUrl ?? null),
        pinnedInstanceId: wanted.instanceId ?? null,
        placement: wanted.placement ?? null,
      });
      await this.pacing.apply(manager, { accountId: id });
    });
    return this.get(workspaceId, id);
  }

  /** @throws AccountNotFound, also for an account of another workspace */
  async get(workspaceId: string, id: string): Promise<Account> {
    const account = await this.accounts.findOneBy({ id, workspaceId });
    if (!account) throw new AccountNotFound(id);
    return account;
  }

  /** Up to `limit + 1` accounts, newest first. */
  async list(
    workspaceId: string,
    { limit, cursor, status, environment }: ListAccountsQuery,
  ): Promise<Account[]> {
    return this.accounts.find({
      where: {
        workspaceId,
        ...given({ status, environment, id: cursor === undefined ? undefined : LessThan(cursor) }),
      },
      order: { id: 'DESC' },
      take: limit + 1,
    });
  }

  /** @throws AccountNotFound; ValidationFailed or AddressNotPublic for a proxy that cannot be used */
  async update(workspaceId: string, id: string, changes: UpdateAccountDto): Promise<Account> {
    const { receive } = await this.get(workspaceId, id);
    const wanted = given({
      ...changes,
      receive: changes.receive && { ...receive, ...given({ ...changes.receive }) },
      ...(changes.proxyUrl === undefined ? {} : this.proxies.columns(id, changes.proxyUrl)),
    });
    await this.database.transaction(async (manager) => {
      if (Object.keys(wanted).length > 0)
        await manager.update(Account, { id, workspaceId }, wanted as object);
      if (changes.pacing !== undefined) await this.pacing.apply(manager, { accountId: id });
    });
    return this.get(workspaceId, id);
  }

  /**
   * Registers what an account that is deleted must end first, in parts: each part is a short transaction. Once more it runs in the
   * transaction of the deletion, when the account takes no new work.
   */
  onDelete(endSome: EndSome): void {
    this.beforeDelete.push(endSome);
  }

  /**
   * Deletes an account with its messages. Flotilla first logs the account out, if it is ready, and then ends its messages that wait. The
   * credentials of an account that is not ready stay on the disk of its server: Flotilla deletes them only after a confirmed logout.
   * @throws AccountNotFound, SessionChanging, InstanceUnreachable
   */
  async delete(workspaceId: string, id: string): Promise<void> {
    const account = await this.get(workspaceId, id);
    if (account.status === 'ready') await this.askSession(workspaceId, id, 'logout');
    const endAll = async (manager: EntityManager) => {
      for (const endSome of this.beforeDelete) while (await endSome(manager, workspaceId, id));
    };
    await endAll(this.database.manager);
    await this.database.transaction(async (manager) => {
      await lockAccount(manager, workspaceId, id);
      await endAll(manager);
      await manager.delete(Account, { id, workspaceId });
    });
    if (account.instanceId) await this.database.query(`select notify_instance($1)`, [account.instanceId]);
  }

  private async deleteAll(workspaceId: string): Promise<void> {
    for (const { id } of await this.accounts.findBy({ workspaceId })) await this.delete(workspaceId, id);
  }

  /**
   * Connects the account: places it on an instance, which restores its session or requests a QR code or a pairing code.
   * If the account is connected or connecting in the same way, nothing starts again, except that a page of WhatsApp Web that lacks
   * what sending needs is loaded again.
   * @throws AccountNotFound, ValidationFailed, SandboxOff; if the page cannot be loaded again, SessionChanging or InstanceUnreachable
   */
  async connect(
    workspaceId: string,
    id: string,
    { method, phoneNumber, allowNumberChange }: ConnectAccountDto,
  ): Promise<Account> {
    const linkPhoneNumber = phoneNumber === undefined ? null : parsePhoneNumber(phoneNumber);
    if (phoneNumber !== undefined && linkPhoneNumber === null) {
      throw new ValidationFailed([{ path: 'phoneNumber', message: phoneNumberHint(phoneNumber) }]);
    }
    const connected = await this.database.transaction(async (manager) => {
      await this.instances.lockPlacement(manager);
      const account = await lockAccount(manager, workspaceId, id);
      if (account.environment === 'sandbox') this.sandbox.requireOn();
      const sameLink = account.linkMethod === method && account.linkPhoneNumber === linkPhoneNumber;
      const runs = account.desiredState === 'connected' && connectingOrConnected.has(account.status);
      if (runs && account.status === 'ready') return account;
      const mayChange = allowNumberChange ?? (runs && account.allowNumberChange);
      const link = {
        linkMethod: method,
        linkPhoneNumber,
        allowNumberChange: mayChange,
        refusedNumber: null,
      };
      await manager.update(Account, id, { ...link, desiredState: 'connected' });
      if (runs && sameLink) return Object.assign(account, link);
      await this.assignments.place(manager, [id], 'connect');
      return lockAccount(manager, workspaceId, id);
    });
    if (
      connected.webContract === 'broken' &&
      (connected.status === 'ready' || connected.status === 'syncing')
    )
      await this.atInstance(connected, (url, path) =>
        this.instanceClient.call(url, 'POST', `${path}/recheck`),
      );
    return connected;
  }

  /**
   * Moves the account to another instance: the named instance, or the best other one. Its session moves with it, so no new
   * QR code is needed.
   * @throws AccountNotFound, InstanceNotFound, NoRoom, SessionNotPortable
   */
  async migrate(workspaceId: string, id: string, instanceId?: string): Promise<Account> {
    return this.database.transaction(async (manager) => {
      await this.instances.lockPlacement(manager);
      await lockAccount(manager, workspaceId, id);
      await this.assignments.migrate(manager, id, instanceId);
      return lockAccount(manager, workspaceId, id);
    });
  }

  /** Stops the session. Its credentials stay, so that the next connect needs no QR code. @throws AccountNotFound */
  async disconnect(workspaceId: string, id: string): Promise<Account> {
    return this.database.transaction(async (manager) => {
      const account = await lockAccount(manager, workspaceId, id);
      Object.assign(account, { desiredState: 'disconnected', moveTo: null, movingSince: null, ...noCodes });
      if (account.status !== 'created' && account.status !== 'logged_out') {
        Object.assign(account, { status: 'disconnected', statusReason: 'user_initiated' });
      }
      return manager.save(account);
    });
  }

  /**
   * Closes the browser of an account and starts it again.
   * @throws AccountNotFound, AccountNotReady, SessionChanging, InstanceUnreachable
   */
  async restart(workspaceId: string, id: string): Promise<Account> {
    const account = await this.get(workspaceId, id);
    if (account.desiredState !== 'connected') throw new AccountNotReady(account);
    if (!connectingOrConnected.has(account.status))
      return this.connect(workspaceId, id, {
        method: account.linkMethod,
        phoneNumber: account.linkPhoneNumber ?? undefined,
        allowNumberChange: account.allowNumberChange,
      });
    await this.atInstance(account, (url, path) => this.instanceClient.call(url, 'POST', `${path}/restart`));
    return this.get(workspaceId, id);
  }

  /**
   * Unlinks the account at WhatsApp. Its instance deletes the credentials once WhatsApp has confirmed.
   * @throws AccountNotFound, AccountNotReady, SessionChanging, InstanceUnreachable
   */
  async logout(workspaceId: string, id: string): Promise<Account> {
    await this.askSession(workspaceId, id, 'logout');
    return this.get(workspaceId, id);
  }

  /**
   * Ends the cool-down early: messages to contacts that have never written may leave again.
   * @throws AccountNotFound, ColdNotPaused
   */
  async resumeCold(workspaceId: string, id: string): Promise<Account> {
    const account = await this.get(workspaceId, id);
    await this.pacing.resumeCold(id);
    return account;
  }

  /** The current QR code. @throws AccountNotFound, NoQr */
  async qr(workspaceId: string, id: string): Promise<{ qr: string; png: Buffer; expiresAt: Date }> {
    const account = await this.get(workspaceId, id);
    if (account.status !== 'qr' || !account.qr || !account.qrExpiresAt) throw new NoQr(account);
    const png = await QRCode.toBuffer(account.qr, { type: 'png', width: 300, errorCorrectionLevel: 'L' });
    return { qr: account.qr, png, expiresAt: account.qrExpiresAt };
  }

  /** The current pairing code. @throws AccountNotFound, NoPairingCode */
  async pairingCode(workspaceId: string, id: string): Promise<{ code: string; expiresAt: Date }> {
    const account = await this.get(workspaceId, id);
    if (account.status !== 'pairing' || !account.pairingCode || !account.pairingCodeExpiresAt) {
      throw new NoPairingCode(account);
    }
    return { code: account.pairingCode, expiresAt: account.pairingCodeExpiresAt };
  }

  /**
   * Lets a simulated phone scan the account's QR code. A phone belongs to the workspace that first linked it.
   * @param phone the phone's number; without it, the sandbox makes a new phone
   * @returns the number of the phone
   * @throws AccountNotFound, NotASandboxAccount, NoQr, ValidationFailed, SandboxPhoneNotFound, and the other problems of
   * {@link SandboxClient}
   */
  async sandboxScan(workspaceId: string, id: string, phone?: string): Promise<{ phone: string }> {
    const account = await this.get(workspaceId, id);
    if (account.environment !== 'sandbox') throw new NotASandboxAccount();
    if (account.status !== 'qr' || !account.qr) throw new NoQr(account);
    const number = phone === undefined ? undefined : parsePhoneNumber(phone);
    if (number === null) throw new ValidationFailed([{ path: 'phone', message: phoneNumberHint(phone) }]);
    // The sandbox does not know the workspace of a phone that was linked through its control API.
    if (number !== undefined && (await this.isLinkedElsewhere(workspaceId, number)))
      throw new SandboxPhoneNotFound(number);
    const scanner = await this.sandbox.phone(number);
    await this.sandbox.scan(scanner, account.qr, workspaceId);
    return { phone: scanner };
  }

  /** Whether a simulated phone is linked to an account of another workspace. */
  private async isLinkedElsewhere(workspaceId: string, phoneNumber: string): Promise<boolean> {
    // The rows of other workspaces are hidden from the request.
    return asPlatform(() =>
      this.accounts.existsBy({ environment: 'sandbox', phoneNumber, workspaceId: Not(workspaceId) }),
    );
  }

  /**
   * A screenshot of the account's browser, as a PNG.
   * @throws AccountNotFound, AccountNotReady, SessionChanging, InstanceUnreachable
   */
  async screenshot(workspaceId: string, id: string): Promise<Buffer> {
    const account = await this.get(workspaceId, id);
    if (!connectingOrConnected.has(account.status)) throw new AccountNotReady(account);
    return this.atInstance(account, (url, path) => this.instanceClient.download(url, `${path}/screenshot`));
  }

  /**
   * Calls the session of a ready account, through the instance that drives the account.
   * @param what the path of the call, below the account's path
   * @param body the body of the call. The epoch is added: the instance must own the account at that epoch.
   * @param timeoutMs longer than the instance's own timeout, so that the instance reports the outcome
   * @throws AccountNotFound, AccountNotReady, SessionChanging, InstanceUnreachable or InstanceRefused if nothing was done,
   * InstanceAnswerLost if the outcome is unknown, and the problems of the instance
   */
  async askSession<Answer>(
    workspaceId: string,
    id: string,
    what: string,
    body: object = {},
    timeoutMs = sessionTimeoutMs,
  ): Promise<Answer> {
    const account = await this.get(workspaceId, id);
    if (account.status !== 'ready') throw new AccountNotReady(account);
    const payload = { ...body, epoch: account.epoch };
    return this.atInstance(account, (url, path) =>
      this.instanceClient.call<Answer>(url, 'POST', `${path}/${what}`, payload, timeoutMs),
    );
  }

  /** Calls the instance that drives the account. @param call gets the URL of the instance, and the account's path there */
  private async atInstance<Answer>(
    account: Account,
    call: (url: string, path: string) => Promise<Answer>,
  ): Promise<Answer> {
    if (!account.instanceId) throw new AccountNotReady(account);
    const { url } = await this.instances.get(account.instanceId);
    try {
      return await call(url, `/internal/accounts/${account.id}`);
    } catch (error) {
      if (error instanceof Problem && sessionChangingCodes.has(error.code)) throw new SessionChanging();
      throw error;
    }
  }
}

const noCodes = { qr: null, qrExpiresAt: null, pairingCode: null, pairingCodeExpiresAt: null };

async function lockAccount(manager: EntityManager, workspaceId: string, id: string): Promise<Account> {
  const account = await manager.findOne(Account, {
    where: { id, workspaceId },
    lock: { mode: 'pessimistic_write' },
  });
  if (!account) throw new AccountNotFound(id);
  return account;
}

/**
 * Checks that the workspace may have one more account. A lock makes other transactions that create accounts of the workspace
 * wait until this transaction ends.
 * @throws AccountLimitReached
 */
async function assertBelowLimit(manager: EntityManager, workspaceId: string): Promise<void> {
  const [workspace] = await manager.query<{ max_accounts: number | null }[]>(
    'select max_accounts from workspaces where id = $1',
    [workspaceId],
  );
  const limit = workspace?.max_accounts ?? null;
  if (limit === null) return;
  await manager.query('select pg_advisory_xact_lock(hashtextextended($1, 0))', [`accounts ${workspaceId}`]);
  const [row] = await manager.query<{ count: number }[]>(
    'select count(*)::int as count from accounts where workspace_id = $1',
    [workspaceId],
  );
  if (row!.count >= limit) throw new AccountLimitReached(limit);
}
