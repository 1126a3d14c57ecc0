import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { AccountProxies } from './account-proxies.js';

/** Encrypts what older versions of Flotilla wrote in plain text. Servers that still have an older version may go on writing it. */
@Injectable()
export class AccountProxiesTask implements ScheduledTask {
  readonly name = 'account-proxies';
  readonly everyMs = 60_000;

  constructor(private readonly proxies: AccountProxies) {}

  run(): Promise<number> {
    return this.proxies.encryptOldRows();
  }
}
