/**
 * The program `instance` with a simulated browser session that acknowledges every message. Everything else is real. It reads
 * its configuration from the environment, as the real program does.
 */
import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { OPEN_SESSION } from '#dist/src/accounts/account-sessions.service.js';
import { listen, startRole } from '#dist/src/platform/start-role.js';
import { httpOptionsOf } from '#dist/src/roles/instance.http.js';
import { InstanceModule } from '#dist/src/roles/instance.module.js';
import { openSimulatedSession } from './simulated-session.mjs';

class SendingInstance {}
/** @type {(what: string) => unknown} */
const metadata = (what) => Reflect.getMetadata(what, InstanceModule);
/** @typedef {import('@nestjs/common').ModuleMetadata} ModuleMetadata */
const providers = /** @type {import('@nestjs/common').Provider[]} */ (metadata('providers'));
Module({
  imports: /** @type {ModuleMetadata['imports']} */ (metadata('imports')),
  controllers: /** @type {ModuleMetadata['controllers']} */ (metadata('controllers')),
  providers: providers.map((provider) =>
    'provide' in provider && provider.provide === OPEN_SESSION
      ? { provide: OPEN_SESSION, useValue: openSimulatedSession }
      : provider,
  ),
})(SendingInstance);

process.on('disconnect', () => process.exit(1));
await startRole('instance', (config, logger) =>
  listen(SendingInstance, config, logger, config.instance, undefined, httpOptionsOf(config)),
);
process.send?.('listening');
