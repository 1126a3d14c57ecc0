import {
  type DynamicModule,
  Inject,
  Module,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
} from '@nestjs/common';
import { type SandboxOptions, SandboxServer } from './wire/server.js';

/** Runs the sandbox's server for as long as the application lives. */
@Module({})
export class SandboxModule implements OnApplicationBootstrap, OnApplicationShutdown {
  constructor(@Inject(SandboxServer) private readonly server: SandboxServer) {}

  /** Provides a `SandboxServer` with these options. */
  static forRoot(options: SandboxOptions): DynamicModule {
    return {
      module: SandboxModule,
      providers: [{ provide: SandboxServer, useFactory: () => new SandboxServer(options) }],
      exports: [SandboxServer],
    };
  }

  /** Starts to listen. */
  async onApplicationBootstrap(): Promise<void> {
    await this.server.start();
  }

  /** Stops within a few seconds. */
  async onApplicationShutdown(): Promise<void> {
    await this.server.stop();
  }
}
