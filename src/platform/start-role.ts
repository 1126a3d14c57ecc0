import 'reflect-metadata';
import { type DynamicModule, type INestApplicationContext, Module, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter, type NestExpressApplication } from '@nestjs/platform-express';
import express from 'express';
import { type Config, loadConfig, secretsOf } from './config/config.js';
import { ConfigModule } from './config/config.module.js';
import { answerNotFound, configureHttp, type HttpOptions } from './http/http.js';
import { createLogger, type Logger, NestLogger } from './logging/logger.js';
import { LoggingModule } from './logging/logging.module.js';

/** The root module: the settings, the log, and the module of one role. */
@Module({})
export class RootModule {
  static of(role: Type | DynamicModule, config: Config, logger: Logger): DynamicModule {
    return {
      module: RootModule,
      imports: [ConfigModule.forRoot(config), LoggingModule.forRoot(logger), role],
    };
  }
}

/**
 * Builds the context of one role, without HTTP. It closes gracefully on SIGTERM and SIGINT, unless `handleSignals` is false.
 */
export async function createContext(
  role: Type | DynamicModule,
  config: Config,
  logger: Logger,
  { handleSignals = true } = {},
): Promise<INestApplicationContext> {
  const context = await NestFactory.createApplicationContext(RootModule.of(role, config, logger), {
    logger: new NestLogger(logger),
    abortOnError: false,
  });
  if (handleSignals) context.enableShutdownHooks();
  return context;
}

/** Adds a role's own HTTP set-up, before the services start. */
export type ConfigureApp = (app: NestExpressApplication) => void;

/** Builds the HTTP application of one role. It does not listen yet. */
export async function createApp(
  role: Type | DynamicModule,
  config: Config,
  logger: Logger,
  configure: ConfigureApp = () => undefined,
  options: HttpOptions = {},
): Promise<NestExpressApplication> {
  const server = express();
  // Some access rules compare paths, so /API/v1 must not lead to the same route as /api/v1.
  server.enable('case sensitive routing');
  const app = await NestFactory.create<NestExpressApplication>(
    RootModule.of(role, config, logger),
    new ExpressAdapter(server),
    { logger: new NestLogger(logger), abortOnError: false, bodyParser: false, forceCloseConnections: true },
  );
  configureHttp(app, logger, config.http, options);
  configure(app);
  await app.init();
  app.use(answerNotFound);
  return app;
}

/** Builds the HTTP application of one role, and listens. It closes gracefully on SIGTERM and SIGINT. */
export async function listen(
  role: Type | DynamicModule,
  config: Config,
  logger: Logger,
  address: { host: string; port: number },
  configure?: ConfigureApp,
  options?: HttpOptions,
): Promise<void> {
  const app = await createApp(role, config, logger, configure, options);
  await app.listen(address.port, address.host);
  logger.info({ host: address.host, port: address.port }, 'listening');
}

/** Runs the main function of a role. If the start fails, one log line says why, and the exit code is 1. */
export async function startRole(
  name: string,
  start: (config: Config, logger: Logger) => Promise<unknown>,
): Promise<void> {
  let logger = createLogger(name, 'info');
  try {
    const config = loadConfig();
    logger = createLogger(name, config.logLevel, { secrets: secretsOf(config) });
    await start(config, logger);
  } catch (error) {
    logger.fatal(
      { err: error },
      `${name} could not start: ${error instanceof Error ? error.message : String(error)}`,
    );
    process.exitCode = 1;
    // Handles that are already open must not keep a failed role alive. The log line is written synchronously, so it is not lost.
    process.exit();
  }
}
