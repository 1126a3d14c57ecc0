import type { INestApplicationContext } from '@nestjs/common';
import { getDataSourceToken } from '@nestjs/typeorm';
import type { DataSource } from 'typeorm';
import { MessagesModule } from '../../src/messages/messages.module.js';
import type { Config } from '../../src/platform/config/config.js';
import { createLogger } from '../../src/platform/logging/logger.js';
import { createContext } from '../../src/platform/start-role.js';
import { WorkerModule } from '../../src/roles/worker.module.js';

export const silent = createLogger('test', 'silent');

/** What a worker has, and what the API accepts messages with, in this process. */
export async function startServices(
  config: Config,
): Promise<{ context: INestApplicationContext; database: DataSource }> {
  const module = { module: class TestModule {}, imports: [WorkerModule, MessagesModule] };
  const context = await createContext(module, config, silent, { handleSignals: false });
  return { context, database: context.get<DataSource>(getDataSourceToken()) };
}
