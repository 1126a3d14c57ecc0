/**
 * The program `instance` with a simulated browser session that acknowledges every message. Everything else is real. It reads
 * its configuration from the environment, as the real program does.
 */
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { SessionsModule } from '#dist/src/sessions/sessions.module.js';
import { listen, startRole } from '#dist/src/platform/start-role.js';
import { httpOptionsOf } from '#dist/src/roles/instance.http.js';
import { InstanceModule } from '#dist/src/roles/instance.module.js';
import { openSimulatedSession } from './simulated-session.mjs';

class SendingInstance extends InstanceModule {}
/** @type {(what: string) => unknown} */
const metadata = (what) => Reflect.getMetadata(what, InstanceModule);
/** @typedef {import('@nestjs/common').ModuleMetadata} ModuleMetadata */
const imports = /** @type {NonNullable<ModuleMetadata['imports']>} */ (metadata('imports'));
Module({
  imports: imports.map((imported) =>
    'module' in imported && imported.module === SessionsModule
      ? SessionsModule.using(openSimulatedSession)
      : imported,
  ),
  controllers: /** @type {ModuleMetadata['controllers']} */ (metadata('controllers')),
  providers: /** @type {ModuleMetadata['providers']} */ (metadata('providers')),
})(SendingInstance);

process.on('disconnect', () => process.exit(1));
await startRole('instance', (config, logger) =>
  listen(SendingInstance, config, logger, config.instance, undefined, httpOptionsOf(config)),
);
process.send?.('listening');
