/**
 * The program `instance` with everything real but the browser, in which WhatsApp acknowledges every message. It is
 * configured by its environment, as the real one is.
 */
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { SessionsModule } from '../dist/src/sessions/sessions.module.js';
import { listen, startRole } from '../dist/src/platform/start-role.js';
import { httpOptionsOf } from '../dist/src/roles/instance.http.js';
import { InstanceModule } from '../dist/src/roles/instance.module.js';
import { SimulatedSession } from './simulated-session.mjs';

class SendingInstance extends InstanceModule {}
const of = (/** @type {string} */ what) => Reflect.getMetadata(what, InstanceModule);
Module({
  imports: of('imports').map((imported) =>
    imported.module === SessionsModule
      ? SessionsModule.using((options) => new SimulatedSession(options))
      : imported,
  ),
  controllers: of('controllers'),
  providers: of('providers'),
})(SendingInstance);

process.on('disconnect', () => process.exit(1));
await startRole('instance', (config, logger) =>
  listen(SendingInstance, config, logger, config.instance, undefined, httpOptionsOf(config)),
);
process.send?.('listening');
