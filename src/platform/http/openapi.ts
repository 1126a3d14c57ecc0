import type { OpenAPIObject } from '@nestjs/swagger';
import { STATUS_CODES } from 'node:http';
import { problemBody } from '../errors/problem.filter.js';
import { Problem, ReferenceGone, RouteNotFound } from '../errors/problem.js';
import { BodyTypeUnsupported } from './body.js';
import { KeyInUrl } from './key-in-url.js';
import { exampleOf, type Schema } from './openapi-examples.js';
import { RateLimitExceeded } from './rate-limit.js';
import { TooMuchUnread } from './unread-responses.js';

/** Facts about a route that the swagger module does not know. */
export interface RouteFacts {
  /** The role that may call the route. Undefined if the code names no role. */
  access: string | undefined;
  /** Whether the route needs no key. */
  isPublic: boolean;
  /** Whether a call with the admin key must name the workspace. */
  isScoped: boolean;
  problems: Problem[];
}

type Operation = NonNullable<OpenAPIObject['paths'][string]['get']>;
const methods = ['get', 'post', 'put', 'patch', 'delete'] as const;

/** Every operation of a document, with its path and method. */
export function operationsOf(
  document: OpenAPIObject,
): { path: string; method: string; operation: Operation }[] {
  return Object.entries(document.paths).flatMap(([path, item]) =>
    methods.flatMap((method) => {
      const operation = item[method];
      return operation ? [{ path, method, operation }] : [];
    }),
  );
}

/** The problems that any route may have: before the request reaches the route, or during an outage. */
const everywhere = [
  new KeyInUrl('the parameter key'),
  new Problem(
    400,
    'request.malformed',
    'The request is not valid HTTP or JSON, or an id in it is not valid.',
  ),
  new Problem(
    500,
    'internal.error',
    'Flotilla failed with an internal error. The log has the details under the request id.',
  ),
  new Problem(503, 'service.unavailable', 'PostgreSQL does not answer. Try again later.'),
];
/** The problems of requests that reach no route. */
const withoutRoute = [
  new RouteNotFound('GET', '/api/v1/nothing'),
  new Problem(408, 'request.timeout', 'The request did not arrive in time.'),
  new Problem(431, 'request.headers_too_large', 'The URL and the headers are larger than 16 kB together.'),
];
const ofKeys = [
  new RateLimitExceeded('This API key has made too many requests.', 12),
  new TooMuchUnread(32 * 2 ** 20),
];
const exampleRequestId = '0f3c7a52-6f0e-4a83-9c55-3f6a1f0c8a11';
const ofInput = new Problem(400, 'validation.failed', 'text: must not be empty', [
  { path: 'text', message: 'must not be empty' },
]);
const ofBodies = [
  new Problem(413, 'request.too_large', 'request entity too large'),
  new BodyTypeUnsupported('text/plain'),
];

/**
 * Completes a document of the swagger module in place: who may call each operation, every error with its code, examples, and
 * details that the plugin cannot see.
 * @param factsOf returns the facts about the route with this operation id
 */
export function completeDocument(
  document: OpenAPIObject,
  factsOf: (operationId: string) => RouteFacts,
): void {
  const components = (document.components ??= {});
  const schemas = (components.schemas ??= {}) as Record<string, Schema>;
  const responses: Record<string, ResponseObject> = {};
  for (const schema of Object.values(schemas)) completeSchema(schema);
  for (const schema of Object.values(schemas)) schema.examples ??= [exampleOf(schema, schemas)];
  // HTTP defines HEAD as GET without the body, so the document does not list it.
  for (const item of Object.values(document.paths)) delete item.head;
  const codes = new Map(withoutRoute.map((problem) => [problem.code, problem]));
  for (const { method, operation } of operationsOf(document)) {
    const facts = factsOf(operation.operationId!);
    describeAccess(operation, facts);
    completeInput(operation, schemas);
    const general = method === 'get' ? everywhere : [...everywhere, new ReferenceGone()];
    for (const problem of addProblems(operation, general, facts, responses)) note(codes, problem);
    completeAnswers(operation, schemas);
  }
  takeNulls(document, schemas);
  components.responses = sorted(responses);
  schemas.ErrorCode = {
    type: 'string',
    description: 'Every code that an error can have.',
    enum: [...codes.keys()].sort(),
  };
  schemas.Problem = problemSchema();
  components.examples = Object.fromEntries(
    [...codes.values()]
      .sort((a, b) => a.code.localeCompare(b.code))
      .map((problem) => [
        problem.code,
        // Through JSON: the placeholder for field errors is a function, and the script of the docs page cannot handle it.
        {
          summary: problem.message,
          value: JSON.parse(JSON.stringify(problemBody(problem, exampleRequestId))) as unknown,
        },
      ]),
  );
}

/** Says that optional fields of requests may be null. Schemas of answers stay as they are: answers have no null there. */
function takeNulls(document: OpenAPIObject, schemas: Record<string, Schema>): void {
  const asked = new Set<Schema>();
  const answered = new Set<Schema>();
  collectSchemas(document.webhooks, schemas, answered);
  for (const { operation } of operationsOf(document)) {
    collectSchemas(operation.requestBody, schemas, asked);
    collectSchemas(operation.responses, schemas, answered);
  }
  for (const schema of asked)
    if (!answered.has(schema))
      for (const [name, property] of Object.entries(schema.properties ?? {}))
        if (!schema.required?.includes(name)) takeNull(property);
}

/** Adds every named schema that a part of the document refers to, also indirectly. */
function collectSchemas(part: unknown, schemas: Record<string, Schema>, found: Set<Schema>): void {
  if (typeof part !== 'object' || part === null) return;
  for (const [key, value] of Object.entries(part)) {
    const named = key === '$ref' ? schemas[String(value).replace('#/components/schemas/', '')] : undefined;
    if (named && !found.has(named)) {
      found.add(named);
      collectSchemas(named, schemas, found);
    } else collectSchemas(value, schemas, found);
  }
}

function takeNull(property: Schema): void {
  const { $ref, allOf, anyOf, oneOf, type } = property;
  const choices = anyOf ?? oneOf ?? allOf ?? ($ref === undefined ? undefined : [{ $ref }]);
  if (choices) {
    if (choices.some((choice) => choice.type === 'null')) return;
    for (const name of ['$ref', 'allOf', 'oneOf'] as const) delete property[name];
    property.anyOf = [...choices, { type: 'null' }];
    return;
  }
  if (type !== undefined) property.type = [...new Set([type, 'null'].flat())];
  if (property.enum) property.enum = [...new Set([...property.enum, null])];
}

/** Adds the code of a problem. @throws Error if the same code has another status elsewhere: callers decide by the code */
function note(codes: Map<string, Problem>, problem: Problem): void {
  const known = codes.get(problem.code);
  if (known && known.status !== problem.status)
    throw new Error(`The code ${problem.code} has two statuses: ${known.status} and ${problem.status}.`);
  codes.set(problem.code, problem);
}

function sorted<Value>(record: Record<string, Value>): Record<string, Value> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function describeAccess(operation: Operation, { access, isPublic, isScoped }: RouteFacts): void {
  if (access !== undefined) {
    Object.assign(operation, { 'x-required-role': access });
    operation.description = [operation.description, accessInWords(access)].filter(Boolean).join('\n\n');
  }
  if (isPublic) operation.security = [];
  if (isScoped) {
    operation.parameters = [...(operation.parameters ?? []), { $ref: '#/components/parameters/WorkspaceId' }];
  }
}

function accessInWords(access: string): string {
  if (access === 'public') return 'Needs no key.';
  return access === 'admin'
    ? 'Needs the admin key.'
    : `Needs a key with the role ${access} or more, or the admin key.`;
}

/** Makes fields with a default optional, marks times, and sorts enums: the plugin does not do that. */
function completeSchema(schema: Schema): void {
  const properties = Object.entries(schema.properties ?? {});
  for (const [name, property] of properties) {
    completeSchema(property);
    unwrapChoice(property);
    const isText =
      property.type === 'string' || (Array.isArray(property.type) && property.type.includes('string'));
    // The plugin converts an example that consists of digits to a number.
    if (isText && typeof property.example === 'number') property.example = String(property.example);
    if (property.enum) property.enum = [...property.enum].sort();
    if (/(At|Until)$|^(until|scheduledFor)$/.test(name) && isText) property.format = 'date-time';
  }
  if (schema.items) completeSchema(schema.items);
  const required = schema.required?.filter((name) => schema.properties?.[name]?.default === undefined);
  if (required?.length) schema.required = required;
  else delete schema.required;
}

/** Repairs a field that is a value or a list of values: the swagger module describes it as a list of either. */
function unwrapChoice(property: Schema): void {
  const choice = property.items?.oneOf;
  if (!choice?.some(({ type }) => type === 'array')) return;
  for (const name of ['type', 'items', 'minItems', 'maxItems'] as const) delete property[name];
  property.oneOf = choice;
}

function completeInput(operation: Operation, schemas: Record<string, Schema>): void {
  for (const parameter of operation.parameters ?? []) {
    if ('$ref' in parameter) continue;
    const schema = parameter.schema as Schema;
    if (parameter.in === 'query' && schema.default !== undefined) parameter.required = false;
    if (parameter.in === 'path' && /^(id|\w+Id)$/.test(parameter.name) && schema.type === undefined) {
      schema.type = 'string';
    }
    if (parameter.in === 'path') parameter.example ??= exampleOf(schema, schemas, parameter.name);
  }
  const body = operation.requestBody;
  if (!body || '$ref' in body) return;
  for (const media of Object.values(body.content)) {
    if (
      media.schema &&
      !('$ref' in media.schema) &&
      media.example === undefined &&
      media.examples === undefined
    ) {
      media.example = exampleOf(media.schema as Schema, schemas);
    }
  }
}

function completeAnswers(operation: Operation, schemas: Record<string, Schema>): void {
  for (const [status, response] of Object.entries(operation.responses)) {
    if (!response || '$ref' in response) continue;
    response.description ||= STATUS_CODES[status] ?? 'Done';
    for (const media of Object.values(response.content ?? {})) {
      const schema = media.schema as Schema | undefined;
      if (!schema || schema.$ref) continue;
      completeSchema(schema);
      if (media.example === undefined && media.examples === undefined && schema.format !== 'binary') {
        media.example = exampleOf(schema, schemas);
      }
    }
  }
}

/** Adds problems to the answers of an operation. @returns these problems */
function addProblems(
  operation: Operation,
  general: Problem[],
  facts: RouteFacts,
  shared: Record<string, ResponseObject>,
): Problem[] {
  const problems = [
    ...general,
    ...(facts.isPublic ? [] : ofKeys),
    ofInput,
    ...(operation.requestBody ? ofBodies : []),
    ...facts.problems,
  ];
  const statuses = [...new Set(problems.map(({ status }) => status))].sort((a, b) => a - b);
  for (const status of statuses) {
    const some = problems.filter((problem) => problem.status === status);
    const ofStatus = [...new Map(some.map((problem) => [problem.code, problem])).values()];
    const name = ofStatus.map(({ code }) => code).join('-');
    shared[name] ??= problemResponse(ofStatus);
    operation.responses[String(status)] = { $ref: `#/components/responses/${name}` };
  }
  return problems;
}

type ResponseObject = Exclude<Operation['responses'][string], undefined | { $ref: string }>;

/** The answer for one status, with its possible codes. Operations with the same codes share it. */
function problemResponse(problems: Problem[]): ResponseObject {
  const codes = problems.map(({ code }) => code);
  return {
    description: problems.map(({ code, message }) => `\`${code}\`: ${message}`).join('\n\n'),
    content: {
      'application/problem+json': {
        schema: {
          allOf: [
            { $ref: '#/components/schemas/Problem' },
            { type: 'object', properties: { code: { enum: codes } }, required: ['code'] },
          ],
        },
        examples: Object.fromEntries(codes.map((code) => [code, { $ref: `#/components/examples/${code}` }])),
      },
    },
  };
}

function problemSchema(): Schema {
  const text: Schema = { type: 'string' };
  return {
    type: 'object',
    description: 'The body of every error (RFC 9457).',
    properties: {
      type: text,
      title: text,
      status: { type: 'integer' },
      code: {
        type: 'string',
        description:
          'The error code. It never changes, so programs should decide by it. `ErrorCode` lists all codes.',
      },
      detail: { type: 'string', description: 'What is wrong and what to do, for a person.' },
      errors: {
        type: 'array',
        description: 'The invalid fields.',
        items: { type: 'object', properties: { path: text, message: text }, required: ['path', 'message'] },
      },
      requestId: {
        type: 'string',
        description: 'The id of the request in the log. The header X-Request-Id has it too.',
      },
    },
    required: ['type', 'title', 'status', 'code', 'detail'],
  };
}
