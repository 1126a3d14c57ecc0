import { Inject, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { In, Not, Repository } from 'typeorm';
import { InstanceLease } from '../instances/instance-lease.js';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import type { AccountObservation } from './account-driver.js';
import { Account, type AccountStatus } from '../accounts/account.entity.js';

/**
 * The rows of the accounts of this instance: which it is to drive, which it holds, and what it says of them. Whatever it
 * writes is written only while this very process has its instance's lease.
 */
@Injectable()
export class OwnAccounts {
  constructor(
    @InjectRepository(Account) private readonly accounts: Repository<Account>,
    @Inject(CONFIG) private readonly config: Config,
    private readonly lease: InstanceLease,
  ) {}

  /** Says of all accounts of this instance in some statuses that it starts anew. */
  async setAll(from: AccountStatus[], status: AccountStatus): Promise<void> {
    await this.accounts
      .createQueryBuilder()
      .update()
      .set({ status, statusReason: 'instance_restart', qr: null, pairingCode: null })
      .where({ ...this.own, status: In(from) })
      .andWhere(this.isThisLife, this.life)
      .execute();
  }

  /** The accounts that this instance is to drive. */
  private get own() {
    return { instanceId: this.config.instance.id, desiredState: 'connected' as const };
  }

  /** The accounts that are to be driven here, those with urgent messages first. */
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

  /** Lets go of the accounts that have no browser here any more, so that their next owner may start. */
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

  /** Makes this instance the holder, if it owns the account and nobody else can have a browser open for it. */
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

  /** SQL: this process is still the one that has its instance's lease, and that is good. */
  private readonly isThisLife =
    'exists (select from instances life where life.id = :instance and life.incarnation = :incarnation and life.lease_expires_at > now())';

  private get life() {
    return { instance: this.config.instance.id, incarnation: this.lease.incarnation };
  }

  /** Writes that a session is ready whose row says otherwise, unless that changed meanwhile. */
  async sayReady({ id, epoch, status }: Account): Promise<void> {
    await this.accounts
      .createQueryBuilder()
      .update()
      .set({ status: 'ready', statusReason: null })
      .where({ ...this.own, id, epoch, status })
      .andWhere(this.isThisLife, this.life)
      .execute();
  }

  /** Writes what is seen of an account, if this instance still owns it at this epoch. */
  async report(account: Account, seen: AccountObservation): Promise<boolean> {
    const inMs = (ms: number) => new Date(Date.now() + ms);
    const result = await this.accounts
      .createQueryBuilder()
      .update()
      .set({
        status: seen.status,
        statusReason: seen.statusReason,
        qr: seen.qr?.value ?? null,
        qrExpiresAt: seen.qr ? inMs(seen.qr.expiresInMs) : null,
        pairingCode: seen.pairingCode?.value ?? null,
        pairingCodeExpiresAt: seen.pairingCode ? inMs(seen.pairingCode.expiresInMs) : null,
        ...(seen.desiredState ? { desiredState: seen.desiredState } : {}),
        // Without credentials there is nothing to own: the next connect may place the account anywhere.
        ...(seen.status === 'logged_out' ? { instanceId: null, linkedAt: null } : {}),
        ...(seen.phoneNumber ? { phoneNumber: seen.phoneNumber } : {}),
        ...(seen.lid ? { lid: seen.lid } : {}),
        ...(seen.connected
          ? { lastConnectedAt: new Date(), linkedAt: () => 'coalesce(linked_at, now())' }
          : {}),
      })
      .where({ ...this.own, id: account.id, epoch: account.epoch })
      .andWhere(this.isThisLife, this.life)
      .execute();
    return (result.affected ?? 0) > 0;
  }
}
