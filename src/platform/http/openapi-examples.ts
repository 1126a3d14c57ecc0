/** As much of a JSON Schema as the plugin makes. */
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

/** Deeper than any answer. */
const deepest = 8;

/**
 * An example that a schema allows: what its fields say of themselves, and something likely where they say nothing. Of
 * what may be left out, only fields that have an example of their own are shown.
 */
export function exampleOf(schema: Schema, schemas: Record<string, Schema>, name = '', depth = 0): unknown {
  if (schema.example !== undefined) return schema.example;
  if (schema.examples?.length) return schema.examples[0];
  if (schema.default !== undefined) return schema.default;
  if (schema.const !== undefined) return schema.const;
  if (schema.enum?.length) return schema.enum[0];
  if (depth > deepest) return null;
  if (schema.$ref) {
    const target = schemas[schema.$ref.slice(schema.$ref.lastIndexOf('/') + 1)];
    return target ? exampleOf(target, schemas, name, depth + 1) : null;
  }
  if (schema.allOf) {
    return Object.assign({}, ...schema.allOf.map((part) => exampleOf(part, schemas, name, depth + 1)));
  }
  const choice = schema.oneOf ?? schema.anyOf;
  if (choice?.length) return exampleOf(choice[0]!, schemas, name, depth + 1);
  const type = Array.isArray(schema.type) ? schema.type.find((one) => one !== 'null') : schema.type;
  if (type === 'array') return schema.items ? [exampleOf(schema.items, schemas, name, depth + 1)] : [];
  if (type === 'number' || type === 'integer') return Math.max(schema.minimum ?? 1, 1);
  if (type === 'boolean') return true;
  if (type === 'string') return likelyText(schema.format, name);
  const shown = Object.entries(schema.properties ?? {}).filter(
    ([key, property]) => schema.required?.includes(key) || property.example !== undefined,
  );
  return Object.fromEntries(
    shown.map(([key, property]) => [key, exampleOf(property, schemas, key, depth + 1)]),
  );
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
