import type { INestApplication } from '@nestjs/common';
import { GUARDS_METADATA } from '@nestjs/common/constants.js';
import { ModulesContainer, NestFactory } from '@nestjs/core';
import { DocumentBuilder, type OpenAPIObject, SwaggerModule } from '@nestjs/swagger';
import { AdminGuard } from '../admin/admin.guard.js';
import { MetricsGuard } from '../admin/metrics.guard.js';
import { type Config, version } from '../platform/config/config.js';
import { failuresOf } from '../platform/http/documentation.js';
import { completeDocument, type RouteFacts } from '../platform/http/openapi.js';
import { createLogger } from '../platform/logging/logger.js';
import { RootModule } from '../platform/start-role.js';
import { type Access, accessOf, RoleInsufficient } from '../workspaces/auth.guard.js';
import { webhooksDocument } from '../webhooks/webhooks.document.js';
import { AuthenticationRequired, InvalidKey } from '../workspaces/authentication.service.js';
import { WorkspaceNotFound } from '../workspaces/workspaces.service.js';
import { ApiModule } from './api.module.js';

/** Where the API is. */
export const apiPath = '/api/v1';
/** What lies outside of it. */
const unprefixed = [
  '/',
  'health',
  'health/live',
  'health/ready',
  'api/health',
  'metrics',
  'admin/login',
  'admin/logout',
];

const description = `Runs a fleet of WhatsApp accounts: accepts messages, sends each once, and tells what became of it.

**Keys.** \`Authorization: Bearer KEY\` or \`X-Api-Key: KEY\`. A workspace's key is an \`owner\`, a \`sender\` (sends and reads) or a
\`viewer\` (reads); each may do what the next one may. The admin key may do everything, and names the workspace that it
acts in with \`?workspaceId=\`. What belongs to another workspace does not exist: 404.

**Lists** answer \`{items, nextCursor}\`, newest first. Pass \`nextCursor\` on as \`cursor\` until it is null; \`limit\` is 50 unless
given, and 200 at most.

**Errors** are \`application/problem+json\` (RFC 9457). \`code\` is stable; each operation lists its own. \`X-Request-Id\` comes with
every answer, and is yours when you send one.

**Twice is once.** Send an \`Idempotency-Key\` with \`POST /api/v1/messages\`, and repeat the call as often as you like.`;

/** Puts the routes where the contract has them. */
export function prefixRoutes(app: INestApplication): void {
  app.setGlobalPrefix(apiPath, { exclude: unprefixed });
}

/** The OpenAPI document of the API, from its code. */
export function describeApi(app: INestApplication): OpenAPIObject {
  const outline = new DocumentBuilder()
    .setOpenAPIVersion('3.1.0')
    .setTitle('Flotilla')
    .setDescription(description)
    .setVersion(version)
    .setLicense('MIT', 'https://opensource.org/license/mit')
    .addServer('/', 'where this document comes from')
    .addBearerAuth({ type: 'http', scheme: 'bearer', description: 'An API key.' }, 'bearer')
    .addApiKey(
      { type: 'apiKey', in: 'header', name: 'X-Api-Key', description: 'The same API key.' },
      'apiKey',
    )
    .addSecurityRequirements('bearer')
    .addSecurityRequirements('apiKey')
    .build();
  outline.components = {
    ...outline.components,
    parameters: {
      WorkspaceId: {
        name: 'workspaceId',
        in: 'query',
        required: false,
        description:
          'For the admin key, which has to say in which workspace it acts. Other keys have one of their own.',
        schema: { type: 'string', format: 'uuid' },
      },
    },
  };
  const document = SwaggerModule.createDocument(app, outline, { operationIdFactory: operationId });
  const handlers = handlersOf(app);
  document.webhooks = webhooksDocument;
  completeDocument(document, (id) => {
    const handler = handlers.get(id);
    if (!handler) throw new Error(`No handler belongs to the operation ${id}.`);
    return factsOf(handler);
  });
  return document;
}

/** Serves the document at `/openapi.json`, and Swagger UI, from files of this machine, at `/docs`. */
export function serveDocument(app: INestApplication): void {
  SwaggerModule.setup('docs', app, () => describeApi(app), {
    jsonDocumentUrl: 'openapi.json',
    customSiteTitle: 'Flotilla',
    swaggerOptions: { persistAuthorization: false, docExpansion: 'none', filter: true },
  });
}

/**
 * The same document without a running API: nothing is connected to, and no service is made.
 * @returns as it is kept in docs/openapi.json
 */
export async function generateDocument(): Promise<string> {
  // In preview the settings are handed to nobody.
  const root = RootModule.of(ApiModule, {} as Config, createLogger('openapi', 'silent'));
  const app = await NestFactory.create(root, { preview: true, logger: false, abortOnError: false });
  prefixRoutes(app);
  return `${JSON.stringify(describeApi(app), null, 2)}\n`;
}

/** Guards of their own, behind which only the admin comes. */
const adminGuards: unknown[] = [AdminGuard, MetricsGuard];

interface Handler {
  controller: object;
  method: object;
}

function operationId(controller: string, method: string): string {
  const subject = controller.replace(/Controller$/, '');
  return `${subject.charAt(0).toLowerCase()}${subject.slice(1)}.${method}`;
}

function handlersOf(app: INestApplication): Map<string, Handler> {
  const handlers = new Map<string, Handler>();
  for (const module of app.get(ModulesContainer).values()) {
    for (const { metatype } of module.controllers.values()) {
      const { name, prototype } = metatype as { name: string; prototype: Record<string, object> };
      for (const key of Object.getOwnPropertyNames(prototype)) {
        handlers.set(operationId(name, key), { controller: metatype as object, method: prototype[key]! });
      }
    }
  }
  return handlers;
}

function factsOf({ controller, method }: Handler): RouteFacts {
  const declared = accessOf(method, controller);
  const guards = (Reflect.getMetadata(GUARDS_METADATA, controller) ?? []) as unknown[];
  const access: Access | undefined = adminGuards.some((guard) => guards.includes(guard)) ? 'admin' : declared;
  const isPublic = access === 'public';
  const isScoped = access !== undefined && access !== 'admin' && !isPublic;
  return {
    access,
    isPublic,
    isScoped,
    problems: [
      ...(isPublic ? [] : [new AuthenticationRequired(), new InvalidKey()]),
      ...(isPublic || access === 'viewer' || access === undefined ? [] : [new RoleInsufficient(access)]),
      ...(isScoped ? [new WorkspaceNotFound('…')] : []),
      ...failuresOf(method),
    ],
  };
}
