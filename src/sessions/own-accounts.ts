import { Inject, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type EntityManager, In, Not, Repository } from 'typeorm';
import type { EventType } from '../events/event-types.js';
import { InstanceLease } from '../instances/instance-lease.js';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { isSameNumber } from '../platform/http/phone-number.js';
import type { OwnIds } from '../whatsapp/in-page/page-state.js';
import type { Admission } from '../whatsapp/session-events.js';
import type { AccountObservation } from './account-driver.js';
import { Account, type AccountStatus } from '../accounts/account.entity.js';

/** The statuses of an account without credentials: a phone must link it. */
const unlinked = new Set<AccountStatus>(['qr', 'pairing', 'logged_out']);

/**
 * The rows of this instance's accounts: which accounts it must drive, which it holds, and their status. Every write succeeds only
 * while this process has the lease of its instance.
 */
@Injectable()
export class OwnAccounts {
  constructor(
    @InjectRepository(Account) private readonly accounts: Repository<Account>,
    @Inject(CONFIG) private readonly config: Config,
    private readonly lease: InstanceLease,
  ) {}

  /** Changes the status of this instance's accounts that have one of the statuses `from`, because the instance restarts. */
  async setStatuses(from: AccountStatus[], status: AccountStatus): Promise<void> {
    await this.accounts
      .createQueryBuilder()
      .update()
      .set({ status, statusReason: 'instance_restart', qr: null, pairingCode: null })
      .where({ ...this.own, status: In(from) })
      .andWhere(this.isThisLife, this.life)
      .execute();
  }

  /** The condition for the accounts that this instance must drive. */
  private get own() {
    return { instanceId: this.config.instance.id, desiredState: 'connected' as const };
  }

  /** The accounts to drive here, ordered by their most urgent waiting message. */
  wanted(): Promise<Account[]> {
    return this.accounts
      .createQueryBuilder('account')
      .addSelect(
        `coalesce((select m.priority from messages m where m.account_id = account.id and m.stage = 'queued'
           order by m.priority desc limit 1), -1)`,
        'urgency',
      )
      .where(this.own)
      .andWhere({ status: Not(In(['waiting', 'conflict', 'failed', 'logged_out', 'disconnected'])) })
      .orderBy('urgency', 'DESC')
      .addOrderBy('account.id')
      .getMany();
  }

  /** Releases the accounts that have no browser here any more, so that their next owner may start. */
  async release(driven: string[]): Promise<void> {
    const { id } = this.config.instance;
    await this.accounts
      .createQueryBuilder()
      .update()
      .set({ heldBy: null })
      .where('held_by = :id and id <> all(:driven)', { id, driven })
      .andWhere(this.isThisLife, this.life)
      .execute();
  }

  /** Makes this instance the holder, if it owns the account and no other instance can have a browser open for it. */
  async claim({ id, epoch }: Account): Promise<boolean> {
    const { takeoverMarginMs } = this.config.instance;
    const { affected } = await this.accounts
      .createQueryBuilder()
      .update()
      .set({ heldBy: this.config.instance.id })
      .where({ ...this.own, id, epoch })
      .andWhere(this.isThisLife, this.life)
      .andWhere(
        `(held_by is null or held_by = :instance or exists (select from instances holder where holder.id = held_by
           and (holder.stopped_at is not null
             or holder.lease_expires_at + :margin * interval '1 millisecond' < now())))`,
        { margin: takeoverMarginMs },
      )
      .execute();
    return (affected ?? 0) > 0;
  }

  /** SQL: this process has the lease of its instance, and the lease is valid. */
  private readonly isThisLife =
    'exists (select from instances life where life.id = :instance and life.incarnation = :incarnation and life.lease_expires_at > now())';

  private get life() {
    return { instance: this.config.instance.id, incarnation: this.lease.incarnation };
  }

  /** Writes `ready` for a session that is ready, if the row still has the wrong status that was read. */
  async correctToReady({ id, epoch, status }: Account, statusReason: string | null): Promise<void> {
    await this.accounts
      .createQueryBuilder()
      .update()
      .set({ status: 'ready', statusReason })
      .where({ ...this.own, id, epoch, status })
      .andWhere(this.isThisLife, this.life)
      .execute();
  }

  /**
   * Decides whether a linked page may be the account: it has the account's number, or the account may change its number. A refusal is
   * published once, before the phone is unlinked: if this instance ends in between, the next owner refuses the page as well.
   * @param account gets the new number
   * @throws Error if this instance no longer owns the account, or the page of a phone that has just linked it does not tell its number
   */
  async admit(account: Account, own: OwnIds): Promise<Admission> {
    return this.accounts.manager.transaction(async (manager) => {
      const row = await manager.findOne(Account, {
        where: { ...this.own, id: account.id, epoch: account.epoch },
        lock: { mode: 'pessimistic_write' },
      });
      if (!row) throw new Error('another instance owns the account');
      const isOther = isOtherNumber(row, own);
      if (isOther === null && row.linkedAt === null && row.phoneNumber !== null)
        throw new Error('the page does not tell the number of the phone that linked it');
      if (isOther && !row.allowNumberChange) {
        const refusedNumber = own.phone ?? own.lid;
        if (row.refusedNumber !== refusedNumber) {
          await manager.update(Account, row.id, { refusedNumber });
          const numbers = { phoneNumber: row.phoneNumber, otherPhoneNumber: own.phone };
          await publish(manager, row, 'account.other_number', numbers);
        }
        return row.linkedAt === null ? 'unlink' : 'stop';
      }
      if (isOther) {
        // What the new number got before is not what the account has missed.
        const changes = { phoneNumber: own.phone, lid: own.lid, lastConnectedAt: new Date() };
        await manager.update(Account, row.id, { ...changes, allowNumberChange: false });
        const numbers = { phoneNumber: own.phone, previousPhoneNumber: row.phoneNumber };
        await publish(manager, row, 'account.number_changed', numbers);
        Object.assign(account, changes, { linkedAt: null });
      }
      account.refusedNumber = null;
      return 'admit';
    });
  }

  /**
   * Writes an observation of an account, if this instance still owns it under this epoch.
   * @returns whether it was written
   */
  async report(account: Account, observed: AccountObservation): Promise<boolean> {
    const inMs = (ms: number) => new Date(Date.now() + ms);
    const result = await this.accounts
      .createQueryBuilder()
      .update()
      .set({
        status: observed.status,
        statusReason: observed.statusReason,
        qr: observed.qr?.value ?? null,
        qrExpiresAt: observed.qr ? inMs(observed.qr.expiresInMs) : null,
        pairingCode: observed.pairingCode?.value ?? null,
        pairingCodeExpiresAt: observed.pairingCode ? inMs(observed.pairingCode.expiresInMs) : null,
        ...(observed.desiredState ? { desiredState: observed.desiredState } : {}),
        // Without credentials the account is bound to no instance: the next connect may place it anywhere.
        ...(observed.status === 'logged_out' ? { instanceId: null } : {}),
        ...(unlinked.has(observed.status) ? { linkedAt: null } : {}),
        // Only `admit` changes a number.
        ...(observed.phoneNumber ? { phoneNumber: () => 'coalesce(phone_number, :number)' } : {}),
        ...(observed.lid ? { lid: observed.lid } : {}),
        ...(observed.web
          ? {
              webVersion: observed.web.version,
              webContract: observed.web.contract,
              webMissing: observed.web.missing,
              webCheckedAt: new Date(),
            }
          : {}),
        ...(observed.connected
          ? {
              lastConnectedAt: new Date(),
              linkedAt: () => 'coalesce(linked_at, now())',
              allowNumberChange: false,
            }
          : {}),
      })
      .setParameters({ number: observed.phoneNumber })
      .where({ ...this.own, id: account.id, epoch: account.epoch })
      .andWhere(this.isThisLife, this.life)
      .execute();
    return (result.affected ?? 0) > 0;
  }
}

/**
 * Whether a page has another number than an account. A number that WhatsApp keeps in another form is the same number; a hidden number
 * counts only if one side has no number. Null: there is nothing to compare.
 */
export function isOtherNumber(
  account: Pick<Account, 'phoneNumber' | 'lid'>,
  { phone, lid }: OwnIds,
): boolean | null {
  const { phoneNumber } = account;
  if (phoneNumber !== null && phone !== null) return !isSameNumber(phoneNumber, phone);
  if (account.lid !== null && lid !== null) return account.lid !== lid;
  return null;
}

async function publish(
  manager: EntityManager,
  { id, workspaceId }: Account,
  type: EventType,
  numbers: Record<string, string | null>,
): Promise<void> {
  await manager.query('insert into events (workspace_id, account_id, type, data) values ($1, $2, $3, $4)', [
    workspaceId,
    id,
    type,
    { accountId: id, ...numbers },
  ]);
}
