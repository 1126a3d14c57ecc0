import { Injectable } from '@nestjs/common';
import { InjectDataSource, InjectRepository } from '@nestjs/typeorm';
import QRCode from 'qrcode';
import { DataSource, type EntityManager, LessThan, Repository } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { InstanceClient } from '../instances/instance-client.js';
import { InstancesService } from '../instances/instances.service.js';
import { Problem, ValidationFailed } from '../platform/errors/problem.js';
import { given } from '../platform/database/given.js';
import { parsePhoneNumber } from '../platform/http/phone-number.js';
import { AccountNotFound, AccountNotReady, nothingDoneCodes, SessionChanging } from './account-errors.js';
import { Account, type AccountStatus, drivenStatuses } from './account.entity.js';
import type {
  ConnectAccountDto,
  CreateAccountDto,
  ListAccountsQuery,
  UpdateAccountDto,
} from './accounts.dto.js';
import { AccountLimitReached, LimitsService } from '../workspaces/limits.service.js';
import { WorkspacesService } from '../workspaces/workspaces.service.js';
import { AssignmentsService } from './assignments.service.js';
import { PacingService } from '../pacing/pacing.service.js';
import { SandboxClient } from './sandbox-client.js';

export class NoQr extends Problem {
  constructor(account: Account) {
    super(
      409,
      'account.no_qr',
      `There is no QR code now: the account is ${account.status}. ${
        account.status === 'ready'
          ? 'It is linked: log it out first to link it anew.'
          : `POST /accounts/${account.id}/connect asks for one.`
      }`,
    );
  }
}

export class NoPairingCode extends Problem {
  constructor(account: Account) {
    super(
      409,
      'account.no_pairing_code',
      `There is no pairing code now: the account is ${account.status}. Connect it with {"method": "code", "phoneNumber": "…"}.`,
    );
  }
}

export class NotASandboxAccount extends Problem {
  constructor() {
    super(
      409,
      'account.not_sandbox',
      'Only accounts with environment "sandbox" can be scanned by a simulated phone. Scan the QR code of a live account with a real one.',
    );
  }
}

/** How long an instance may take to answer: longer than a page. */
const sessionMs = 30_000;

/** States in which a session runs or is being started: connecting again changes nothing. */
const connectingOrConnected = new Set<AccountStatus>([...drivenStatuses, 'reconnecting']);

/** What the owner of an account may do with it. What is seen of it is written by the instance that drives it. */
@Injectable()
export class AccountsService {
  constructor(
    @InjectRepository(Account) private readonly accounts: Repository<Account>,
    @InjectDataSource() private readonly database: DataSource,
    private readonly instances: InstancesService,
    private readonly assignments: AssignmentsService,
    private readonly instanceClient: InstanceClient,
    private readonly sandbox: SandboxClient,
    private readonly pacing: PacingService,
    limits: LimitsService,
    workspaces: WorkspacesService,
  ) {
    limits.onUsage(async (workspaceId) => ({ accounts: await this.accounts.countBy({ workspaceId }) }));
    workspaces.onDelete((workspaceId) => this.deleteAll(workspaceId));
  }

  /** @throws InstanceNotFound when a named instance does not exist; AccountLimitReached */
  async create(workspaceId: string, wanted: CreateAccountDto): Promise<Account> {
    if (wanted.instanceId !== undefined) await this.instances.get(wanted.instanceId);
    const id = uuidv7();
    await this.database.transaction(async (manager) => {
      await assertRoom(manager, workspaceId);
      await manager.insert(Account, {
        id,
        workspaceId,
        name: wanted.name,
        environment: wanted.environment,
        labels: wanted.labels ?? [],
        pacing: wanted.pacing ?? null,
        proxyUrl: wanted.proxyUrl ?? null,
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

  /** @throws AccountNotFound */
  async update(workspaceId: string, id: string, changes: UpdateAccountDto): Promise<Account> {
    await this.get(workspaceId, id);
    const wanted = given(changes);
    await this.database.transaction(async (manager) => {
      if (Object.keys(wanted).length > 0)
        await manager.update(Account, { id, workspaceId }, wanted as object);
      if (changes.pacing !== undefined) await this.pacing.apply(manager, { accountId: id });
    });
    return this.get(workspaceId, id);
  }

  /**
   * Deletes an account with its messages, after logging it out when it is ready. The credentials of one that is not
   * ready stay on the disk of its server: they are deleted on a confirmed logout only.
   * @throws AccountNotFound, InstanceUnreachable
   */
  async delete(workspaceId: string, id: string): Promise<void> {
    const account = await this.get(workspaceId, id);
    if (account.status === 'ready') await this.askSession(workspaceId, id, 'logout');
    await this.accounts.delete({ id, workspaceId });
    if (account.instanceId) await this.database.query(`select notify_instance($1)`, [account.instanceId]);
  }

  private async deleteAll(workspaceId: string): Promise<void> {
    for (const { id } of await this.accounts.findBy({ workspaceId })) await this.delete(workspaceId, id);
  }

  /**
   * Wants the account connected: places it on an instance, which restores its session or asks for a QR or pairing code.
   * @throws AccountNotFound, ValidationFailed
   */
  async connect(
    workspaceId: string,
    id: string,
    { method, phoneNumber }: ConnectAccountDto,
  ): Promise<Account> {
    const linkPhoneNumber = phoneNumber === undefined ? null : parsePhoneNumber(phoneNumber);
    if (phoneNumber !== undefined && linkPhoneNumber === null) {
      throw new ValidationFailed([
        { path: 'phoneNumber', message: 'must be a phone number with country code, such as +6281234567890' },
      ]);
    }
    return this.database.transaction(async (manager) => {
      await this.instances.lockPlacement(manager);
      const account = await lockAccount(manager, workspaceId, id);
      const sameLink = account.linkMethod === method && account.linkPhoneNumber === linkPhoneNumber;
      const runs = account.desiredState === 'connected' && connectingOrConnected.has(account.status);
      if (runs && (sameLink || account.status === 'ready')) return account;
      await manager.update(Account, id, { linkMethod: method, linkPhoneNumber, desiredState: 'connected' });
      await this.assignments.place(manager, [id], 'connect');
      return lockAccount(manager, workspaceId, id);
    });
  }

  /**
   * Moves the account to another instance: the named one, or the best other. Its session goes along, without a new QR code.
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

  /** Stops the session; credentials stay, so that the next connect needs no QR code. @throws AccountNotFound */
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

  /** Closes the browser of an account and starts it again. @throws AccountNotFound, AccountNotReady, SessionChanging, InstanceUnreachable */
  async restart(workspaceId: string, id: string): Promise<Account> {
    const account = await this.get(workspaceId, id);
    if (account.desiredState !== 'connected') throw new AccountNotReady(account);
    if (!connectingOrConnected.has(account.status))
      return this.connect(workspaceId, id, {
        method: account.linkMethod,
        phoneNumber: account.linkPhoneNumber ?? undefined,
      });
    await this.atInstance(account, (url, path) => this.instanceClient.call(url, 'POST', `${path}/restart`));
    return this.get(workspaceId, id);
  }

  /**
   * Unlinks the account at WhatsApp. Its credentials are deleted once WhatsApp has confirmed.
   * @throws AccountNotFound, AccountNotReady, SessionChanging, InstanceUnreachable
   */
  async logout(workspaceId: string, id: string): Promise<Account> {
    await this.askSession(workspaceId, id, 'logout');
    return this.get(workspaceId, id);
  }

  /**
   * Lets messages to contacts that have never written leave again, before the cool-down is over.
   * @throws AccountNotFound, ColdNotPaused
   */
  async resumeCold(workspaceId: string, id: string): Promise<Account> {
    const account = await this.get(workspaceId, id);
    await this.pacing.resumeCold(id);
    return account;
  }

  /** The QR code that is shown now. @throws AccountNotFound, NoQr */
  async qr(workspaceId: string, id: string): Promise<{ qr: string; png: Buffer; expiresAt: Date }> {
    const account = await this.get(workspaceId, id);
    if (account.status !== 'qr' || !account.qr || !account.qrExpiresAt) throw new NoQr(account);
    const png = await QRCode.toBuffer(account.qr, { type: 'png', width: 300, errorCorrectionLevel: 'L' });
    return { qr: account.qr, png, expiresAt: account.qrExpiresAt };
  }

  /** The pairing code that is shown now. @throws AccountNotFound, NoPairingCode */
  async pairingCode(workspaceId: string, id: string): Promise<{ code: string; expiresAt: Date }> {
    const account = await this.get(workspaceId, id);
    if (account.status !== 'pairing' || !account.pairingCode || !account.pairingCodeExpiresAt) {
      throw new NoPairingCode(account);
    }
    return { code: account.pairingCode, expiresAt: account.pairingCodeExpiresAt };
  }

  /**
   * Lets a simulated phone scan the account's QR code.
   * @param phone the phone's number; a new phone unless named
   * @throws AccountNotFound, NotASandboxAccount, NoQr, ValidationFailed
   */
  async sandboxScan(workspaceId: string, id: string, phone?: string): Promise<{ phone: string }> {
    const account = await this.get(workspaceId, id);
    if (account.environment !== 'sandbox') throw new NotASandboxAccount();
    if (account.status !== 'qr' || !account.qr) throw new NoQr(account);
    const number = phone === undefined ? undefined : parsePhoneNumber(phone);
    if (number === null)
      throw new ValidationFailed([{ path: 'phone', message: 'must be a phone number with country code' }]);
    const scanner = await this.sandbox.phone(number);
    await this.sandbox.scan(scanner, account.qr);
    return { phone: scanner };
  }

  /**
   * A PNG of what the account's browser shows.
   * @throws AccountNotFound, AccountNotReady, SessionChanging, InstanceUnreachable
   */
  async screenshot(workspaceId: string, id: string): Promise<Buffer> {
    const account = await this.get(workspaceId, id);
    if (!connectingOrConnected.has(account.status)) throw new AccountNotReady(account);
    return this.atInstance(account, (url, path) => this.instanceClient.download(url, `${path}/screenshot`));
  }

  /**
   * Asks the session of an account, which has to be ready, through the instance that drives it.
   * @param what the path of the call, below the account's
   * @param body what goes with it, beside the epoch at which the instance has to own the account
   * @param timeoutMs longer than the instance takes, so that it is the one to say what came of it
   * @throws AccountNotFound, AccountNotReady and SessionChanging when nothing was done, InstanceUnreachable and InstanceRefused
   * as well, InstanceAnswerLost when nobody can tell, and what the instance throws
   */
  async askSession<Answer>(
    workspaceId: string,
    id: string,
    what: string,
    body: object = {},
    timeoutMs = sessionMs,
  ): Promise<Answer> {
    const account = await this.get(workspaceId, id);
    if (account.status !== 'ready') throw new AccountNotReady(account);
    const asked = { ...body, epoch: account.epoch };
    return this.atInstance(account, (url, path) =>
      this.instanceClient.call<Answer>(url, 'POST', `${path}/${what}`, asked, timeoutMs),
    );
  }

  /** @param call is given the address of the instance that drives the account, and the path of the account there */
  private async atInstance<Answer>(
    account: Account,
    call: (url: string, path: string) => Promise<Answer>,
  ): Promise<Answer> {
    if (!account.instanceId) throw new AccountNotReady(account);
    const { url } = await this.instances.get(account.instanceId);
    try {
      return await call(url, `/internal/accounts/${account.id}`);
    } catch (error) {
      if (error instanceof Problem && nothingDoneCodes.has(error.code)) throw new SessionChanging();
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
 * Lets a transaction create an account only if the workspace may have one more; others that create one wait for its end.
 * @throws AccountLimitReached
 */
async function assertRoom(manager: EntityManager, workspaceId: string): Promise<void> {
  const [workspace] = await manager.query('select max_accounts from workspaces where id = $1', [workspaceId]);
  const limit: number | null = workspace?.max_accounts ?? null;
  if (limit === null) return;
  await manager.query('select pg_advisory_xact_lock(hashtextextended($1, 0))', [`accounts ${workspaceId}`]);
  const [{ count }] = await manager.query(
    'select count(*)::int as count from accounts where workspace_id = $1',
    [workspaceId],
  );
  if (count >= limit) throw new AccountLimitReached(limit);
}
