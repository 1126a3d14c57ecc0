import { DynamicModule, Module } from '@nestjs/common';
import type { Config } from '../platform/config/config.js';
import type { Logger } from '../platform/logging/logger.js';
import * as controllers from '../sandbox/control/phones.controller.js';
import { SandboxGroupsController } from '../sandbox/control/groups.controller.js';
import { SandboxModule } from '../sandbox/sandbox.module.js';

/** The simulated WhatsApp Web and its control API. */
@Module({})
export class SandboxRoleModule {
  static of(config: Config, logger: Logger): DynamicModule {
    const { host, port, dir } = config.sandbox;
    return {
      module: SandboxRoleModule,
      imports: [SandboxModule.forRoot({ host, port, dir, logger })],
      controllers: [...Object.values(controllers), SandboxGroupsController],
    };
  }
}
