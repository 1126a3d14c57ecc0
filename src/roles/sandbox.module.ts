import { DynamicModule, Module } from '@nestjs/common';
import type { Config } from '../platform/config/config.js';
import type { Logger } from '../platform/logging/logger.js';
import { SandboxCallsController } from '../sandbox/control/calls.controller.js';
import { SandboxCallLinksController } from '../sandbox/control/call-links.controller.js';
import { SandboxChannelsController } from '../sandbox/control/channels.controller.js';
import { SandboxGroupsController } from '../sandbox/control/groups.controller.js';
import { SandboxMessagesController } from '../sandbox/control/messages.controller.js';
import { SandboxNetworkController } from '../sandbox/control/network.controller.js';
import { SandboxPhonesController } from '../sandbox/control/phones.controller.js';
import { SandboxStoriesController } from '../sandbox/control/stories.controller.js';
import { SandboxModule } from '../sandbox/sandbox.module.js';

/** The control API of the sandbox. */
export const sandboxControllers = [
  SandboxNetworkController,
  SandboxPhonesController,
  SandboxMessagesController,
  SandboxGroupsController,
  SandboxCallsController,
  SandboxChannelsController,
  SandboxStoriesController,
  SandboxCallLinksController,
];

/** The simulated WhatsApp Web and its control API. */
@Module({})
export class SandboxRoleModule {
  static of(config: Config, logger: Logger): DynamicModule {
    const { host, port, dir, build } = config.sandbox;
    return {
      module: SandboxRoleModule,
      imports: [SandboxModule.forRoot({ host, port, dir, build, logger })],
      controllers: sandboxControllers,
    };
  }
}
