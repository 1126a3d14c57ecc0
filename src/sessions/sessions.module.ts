import { type DynamicModule, Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { Account } from '../accounts/account.entity.js';
import { AccountProxies } from '../accounts/account-proxies.js';
import { WebVersionsService } from '../accounts/web-versions.service.js';
import { SandboxClient } from '../accounts/sandbox-client.js';
import { InstanceLease } from '../instances/instance-lease.js';
import { InstancesModule } from '../instances/instances.module.js';
import { AccountSessions, OPEN_SESSION, type OpenSession } from './account-sessions.js';
import { OwnAccounts } from './own-accounts.js';
import { SessionSnapshots } from './session-snapshots.js';
import { WebVersionRollout } from './web-version-rollout.js';

/** The sessions that an instance drives, under its lease. */
@Module({})
export class SessionsModule {
  /** @param openSession opens a browser, or a stand-in for one in a benchmark */
  static using(openSession: OpenSession): DynamicModule {
    return {
      module: SessionsModule,
      imports: [InstancesModule, TypeOrmModule.forFeature([Account])],
      providers: [
        InstanceLease,
        OwnAccounts,
        SessionSnapshots,
        AccountProxies,
        SandboxClient,
        WebVersionsService,
        { provide: OPEN_SESSION, useValue: openSession },
        AccountSessions,
        WebVersionRollout,
      ],
      exports: [AccountSessions],
    };
  }
}
