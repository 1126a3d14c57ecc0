import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- a JSON Schema, or any other part of the document
type Json = any;

export interface Operation {
  id: string;
  method: string;
  /** As the document has it: `/api/v1/messages/{id}`. */
  path: string;
  /** `public`, `viewer`, `sender`, `owner` or `admin`; undefined when the code does not say. */
  role: string | undefined;
  parameters: { name: string; in: string; required?: boolean; example?: unknown; schema: Json }[];
  /** The schema of a JSON body. */
  body: Json | undefined;
  /** Other kinds of bodies that it takes. */
  bodyTypes: string[];
  responses: Record<string, Json>;
}

export const document: Json = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../docs/openapi.json'), 'utf8'),
);

/** The part of the document that a `$ref` names, or the part itself. */
export function resolve(part: Json): Json {
  if (typeof part?.$ref !== 'string') return part;
  return resolve(
    part.$ref
      .slice(2)
      .split('/')
      .reduce((at: Json, key: string) => at[key], document),
  );
}

const methods = ['get', 'post', 'put', 'patch', 'delete'];

export const operations: Operation[] = Object.entries(document.paths as Record<string, Json>).flatMap(
  ([path, item]) =>
    methods
      .filter((method) => item[method])
      .map((method) => {
        const operation = item[method];
        const content = resolve(operation.requestBody)?.content ?? {};
        return {
          id: operation.operationId,
          method: method.toUpperCase(),
          path,
          role: operation['x-required-role'],
          parameters: (operation.parameters ?? []).map(resolve),
          body: content['application/json']?.schema,
          bodyTypes: Object.keys(content).filter((type) => type !== 'application/json'),
          responses: operation.responses,
        };
      }),
);

const ajv = new Ajv2020({ strict: false, allErrors: true, discriminator: false });
addFormats.default(ajv);
// A field that is not documented is as wrong as one that is missing.
ajv.addSchema({ $id: 'answers', ...closed({ components: document.components }) });
ajv.addSchema({ $id: 'requests', components: document.components });
const validators = new Map<Json, ValidateFunction>();

/** @param within the name of what it is part of: an error is a `Problem`, and by `allOf` one with certain codes; neither alone is whole */
function closed(part: Json, within = ''): Json {
  if (Array.isArray(part)) return part.map((item) => closed(item, within));
  if (typeof part !== 'object' || part === null) return part;
  const copy = Object.fromEntries(Object.entries(part).map(([key, value]) => [key, closed(value, key)]));
  const isWhole = !['Problem', 'allOf'].includes(within);
  if (copy.type === 'object' && copy.properties && copy.additionalProperties === undefined && isWhole)
    copy.additionalProperties = false;
  return copy;
}

function rebased(schema: Json, base: string): Json {
  return JSON.parse(JSON.stringify(schema).replaceAll('"#/components', `"${base}#/components`));
}

/** What is wrong with a value; null when the schema allows it. `answers` may have no field that is not documented. */
export function violations(kind: 'answers' | 'requests', schema: Json, value: unknown): string | null {
  let validate = validators.get(schema);
  if (!validate) {
    validate = ajv.compile(rebased(kind === 'answers' ? closed(schema) : schema, kind));
    validators.set(schema, validate);
  }
  return validate(value) ? null : ajv.errorsText(validate.errors);
}

const patterns = operations.map((operation) => ({
  operation,
  // What is spelled out comes before what is a parameter: /messages/batch is no message.
  parameterCount: operation.path.split('{').length,
  pattern: new RegExp(`^${operation.path.replaceAll('.', '\\.').replace(/\{\w+\}/g, '[^/]+')}/?$`),
}));
patterns.sort((a, b) => a.parameterCount - b.parameterCount);

/** The operation that a request is; undefined for what the document does not have. */
export function operationOf(method: string, path: string): Operation | undefined {
  const [bare = ''] = path.split('?');
  return patterns.find(({ operation, pattern }) => operation.method === method && pattern.test(bare))
    ?.operation;
}

/**
 * Holds an answer against the document.
 * @returns what the document does not know of it, or null
 */
export function undocumented(
  operation: Operation,
  answer: { status: number; type: string | null; body: unknown },
): string | null {
  const what = `${operation.method} ${operation.path} answered ${answer.status}`;
  const response = resolve(operation.responses[String(answer.status)]);
  if (!response) return `${what}, which docs/openapi.json does not have: ${JSON.stringify(answer.body)}`;
  const type = (answer.type ?? '').split(';')[0]!.trim();
  if (!response.content)
    return answer.body ? `${what} with a body, which has none by docs/openapi.json` : null;
  const media = response.content[type] ?? response.content['*/*'];
  if (!media)
    return `${what} as "${type}", and docs/openapi.json has ${Object.keys(response.content).join(', ')}`;
  if (!type.endsWith('json')) return null;
  const wrong = violations('answers', media.schema, answer.body);
  return (
    wrong &&
    `${what}, not as docs/openapi.json has it: ${wrong}\n${JSON.stringify(answer.body).slice(0, 1_000)}`
  );
}
