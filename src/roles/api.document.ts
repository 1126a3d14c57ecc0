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
import { type Access, accessOf, OtherWorkspace, RoleInsufficient } from '../workspaces/auth.guard.js';
import { webhooksDocument } from '../webhooks/webhooks.document.js';
import { AuthenticationRequired, InvalidKey } from '../workspaces/authentication.service.js';
import { WorkspaceNotFound } from '../workspaces/workspaces.service.js';
import { ApiModule } from './api.module.js';

/** The path of the API. */
export const apiPath = '/api/v1';
/** The routes outside of the API path. */
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

const description = `Runs a fleet of WhatsApp accounts: accepts messages, sends each message once, and reports its status.

**Keys.** Send \`Authorization: Bearer KEY\` or \`X-Api-Key: KEY\`. A key of a workspace has a role: \`owner\` may do everything in the
workspace, \`sender\` may send and read, \`viewer\` may only read. The admin key may do everything. It names the workspace that it
acts in with \`?workspaceId=\`. A key cannot see the objects of another workspace: the answer is 404.

**Lists** answer \`{items, nextCursor}\`, newest first. To read the next page, pass \`nextCursor\` as \`cursor\`. The last page has the
\`nextCursor\` null. \`limit\` is 50 by default and at most 200.

**Errors** are \`application/problem+json\` (RFC 9457). \`code\` is stable, and each operation lists its codes. Every answer has an
\`X-Request-Id\`. If you send an \`X-Request-Id\`, the answer has yours.

**Bodies** are JSON objects in UTF-8, with \`Content-Type: application/json\`. \`null\` for an optional field means the same as
leaving it out, unless the field says what \`null\` means.

**Safe retries.** Send an \`Idempotency-Key\` with \`POST /api/v1/messages\`. Then you can repeat the call as often as you like: the
message is accepted once.`;

/** Prefixes the routes with the path of the API. */
export function prefixRoutes(app: INestApplication): void {
  app.setGlobalPrefix(apiPath, { exclude: unprefixed });
}

/** Makes the OpenAPI document of the API from its code. */
export function describeApi(app: INestApplication): OpenAPIObject {
  const outline = new DocumentBuilder()
    .setOpenAPIVersion('3.1.0')
    .setTitle('Flotilla')
    .setDescription(description)
    .setVersion(version)
    .setLicense('MIT', 'https://opensource.org/license/mit')
    .addServer('/', 'the server of this document')
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
          'Only for the admin key: the workspace that it acts in. Every other key belongs to one workspace, and may name no other.',
        schema: { type: 'string', format: 'uuid' },
      },
    },
  };
  const document = SwaggerModule.createDocument(app, outline, { operationIdFactory: operationId });
  const handlers = handlersOf(app);
  document.webhooks = webhooksDocument;
  completeDocument(document, (id) => {
    const handler = handlers.get(id);
    if (!handler) throw new Error(`The operation ${id} has no handler.`);
    return factsOf(handler);
  });
  return document;
}

/** Serves the document at `/openapi.json`, and Swagger UI at `/docs`. All files come from this machine. */
export function serveDocument(app: INestApplication): void {
  SwaggerModule.setup('docs', app, () => describeApi(app), {
    jsonDocumentUrl: 'openapi.json',
    customSiteTitle: 'Flotilla',
    swaggerOptions: { persistAuthorization: false, docExpansion: 'none', filter: true },
  });
}

/**
 * Makes the same document without a running API: it opens no connection and creates no service.
 * @returns the content of docs/openapi.json
 */
export async function generateDocument(): Promise<string> {
  // In preview mode Nest creates no provider, so nothing reads the empty settings.
  const root = RootModule.of(ApiModule, {} as Config, createLogger('openapi', 'silent'));
  const app = await NestFactory.create(root, { preview: true, logger: false, abortOnError: false });
  prefixRoutes(app);
  return `${JSON.stringify(describeApi(app), null, 2)}\n`;
}

/** The guards of routes that only the admin may call. */
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
      ...(isScoped ? [new OtherWorkspace('…'), new WorkspaceNotFound('…')] : []),
      ...failuresOf(method),
    ],
  };
}
