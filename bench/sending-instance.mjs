/**
 * The program `instance` with everything real but the browser, in which WhatsApp acknowledges every message. It is
 * configured by its environment, as the real one is.
 */
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { OPEN_SESSION } from '../dist/src/sessions/account-sessions.js';
import { listen, startRole } from '../dist/src/platform/start-role.js';
import { httpOptionsOf } from '../dist/src/roles/instance.http.js';
import { InstanceModule } from '../dist/src/roles/instance.module.js';
import { SimulatedSession } from './simulated-session.mjs';

class SendingInstance {}
const of = (/** @type {string} */ what) => Reflect.getMetadata(what, InstanceModule);
Module({
  imports: of('imports'),
  controllers: of('controllers'),
  providers: of('providers').map((provider) =>
    provider.provide === OPEN_SESSION
      ? { provide: OPEN_SESSION, useValue: (options) => new SimulatedSession(options) }
      : provider,
  ),
})(SendingInstance);

process.on('disconnect', () => process.exit(1));
await startRole('instance', (config, logger) =>
  listen(SendingInstance, config, logger, config.instance, undefined, httpOptionsOf(config)),
);
process.send?.('listening');
