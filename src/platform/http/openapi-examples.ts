import { sample } from 'openapi-sampler';

/** The parts of JSON Schema that the plugin uses. */
export interface Schema {
  $ref?: string;
  type?: string | string[];
  format?: string;
  description?: string;
  enum?: unknown[];
  const?: unknown;
  default?: unknown;
  example?: unknown;
  examples?: unknown[];
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  additionalProperties?: boolean | Schema;
  allOf?: Schema[];
  anyOf?: Schema[];
  oneOf?: Schema[];
  minimum?: number;
  minItems?: number;
  maxItems?: number;
}

/**
 * An example that matches a schema: the examples of its fields, and a likely value for a field without an example. An optional
 * field is shown only if it has its own example.
 * @param schemas the schemas that `$ref` may name
 * @param name the name of the field or parameter that the schema describes
 */
export function exampleOf(schema: Schema, schemas: Record<string, Schema>, name = ''): unknown {
  const all = Object.fromEntries(Object.entries(schemas).map(([key, one]) => [key, withExamples(one)]));
  const options = { skipNonRequired: true, quiet: true };
  return sample(withExamples(schema, name) as object, options, { components: { schemas: all } });
}

/** A copy of the schema in which every value has an example, and every shown field is required. */
function withExamples(schema: Schema, name = ''): Schema {
  const { example, examples, enum: values, minimum = 1, format, properties, items } = schema;
  const candidates = [example, examples?.[0], schema.default, schema.const, values?.[0]];
  const given = candidates.find((value) => value !== undefined);
  if (given !== undefined) return { example: given };
  if (schema.$ref !== undefined) return schema;
  const type = Array.isArray(schema.type) ? schema.type.find((one) => one !== 'null') : schema.type;
  if (type === 'number' || type === 'integer') return { example: Math.max(minimum, 1) };
  if (type === 'string') return { example: likelyText(format, name) };
  const parts = (some?: Schema[]) => some?.map((part) => withExamples(part, name));
  const fields = Object.entries(properties ?? {});
  const isShown = ([key, field]: [string, Schema]) =>
    field.example !== undefined || schema.required?.includes(key);
  return {
    ...schema,
    type,
    additionalProperties: false,
    required: fields.filter(isShown).map(([key]) => key),
    properties: Object.fromEntries(fields.map(([key, field]) => [key, withExamples(field, key)])),
    items: items && withExamples(items, name),
    allOf: parts(schema.allOf),
    anyOf: parts(schema.anyOf),
    oneOf: parts(schema.oneOf),
  };
}

const likely: Record<string, string> = {
  phone: '6281234567890',
  phoneNumber: '6281234567890',
  chatId: '6281234567890@c.us',
  contactId: '6281234567890@c.us',
  groupId: '120363021234567890@g.us',
  lid: '219283746554321@lid',
  to: '6281234567890',
  from: '6289876543210',
  url: 'https://example.com',
  instanceId: 'vm.instance_00',
  serverId: 'vm',
  whatsappId: '3EB0F1A2B3C4D5E6F708',
  eventId: '7421-88',
};

function likelyText(format: string | undefined, name: string): string {
  if (format === 'date-time') return '2026-11-25T10:00:00.000Z';
  if (likely[name] !== undefined) return likely[name];
  if (format === 'uuid' || /^id$|Ids?$/.test(name)) return '019aa6e2-5b1c-7c3e-9a41-0d3f5e7b9c21';
  if (format === 'uri') return 'https://example.com';
  return name || 'text';
}
