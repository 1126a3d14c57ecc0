import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Validator } from '@seriousme/openapi-schema-validator';
import openapiTypes, { astToString } from 'openapi-typescript';
import { describe, expect, it } from 'vitest';
import { document, operations, resolve, violations } from '../support/documented.js';

const project = join(import.meta.dirname, '../..');
const cure = 'it is not what the code says: run npm run openapi, look at the difference, and commit it';

describe('docs/openapi.json', () => {
  it('is what the types of the client are made from', async () => {
    const kept = await readFile(join(project, 'clients/typescript/src/schema.ts'), 'utf8');
    const types = astToString(await openapiTypes(structuredClone(document), { defaultNonNullable: false }));
    expect(kept.endsWith(types), cure).toBe(true);
  });

  it('is a valid OpenAPI 3.1 document, by a validator of others', async () => {
    const validator = new Validator();
    expect(await validator.validate(structuredClone(document))).toMatchObject({ valid: true });
    expect(validator.version).toBe('3.1');
  });

  it('says of each operation what it is for, and who may call it', () => {
    const nameless = operations.filter(
      ({ method, path }) => !document.paths[path][method.toLowerCase()].summary,
    );
    expect(
      nameless.map(({ id }) => id),
      'give the handler a doc comment',
    ).toEqual([]);
    const open = operations.filter(({ role }) => role === undefined);
    expect(
      open.map(({ id }) => id),
      'give the handler or its class an @Allow',
    ).toEqual([]);
  });

  it('says of each operation what it answers with', () => {
    const vague = operations.filter(({ responses }) =>
      Object.entries(responses)
        .filter(([status]) => status.startsWith('2') && status !== '204')
        .some(([, response]) => {
          const media = Object.values(resolve(response).content ?? {}) as { schema?: { type?: string } }[];
          return media.length === 0 || media.some(({ schema }) => !saysSomething(resolve(schema)));
        }),
    );
    expect(
      vague.map(({ id }) => id),
      'return a class of a .dto.ts file, or a Page with @Paged, or say it with @ApiOkResponse',
    ).toEqual([]);
  });

  it('has an example for each JSON body, and the body allows each field of the example', () => {
    const withBody = operations.filter(({ body }) => body !== undefined);
    expect(withBody.length).toBeGreaterThan(10);
    const wrong = withBody.flatMap(({ id, body }) => {
      const example = resolve(body).examples?.[0];
      if (example === undefined) return [`${id} has no example`];
      const problem = violations('requests', body, example);
      return problem === null ? [] : [`${id}: ${problem}`];
    });
    expect(wrong, 'give the fields an @example').toEqual([]);
  });

  it('has an example for each answer, which the answer allows', () => {
    const wrong = Object.entries(document.components.schemas as Record<string, { examples?: unknown[] }>)
      .filter(([, { examples }]) => examples !== undefined)
      .flatMap(([name, { examples }]) => {
        const problem = violations('requests', { $ref: `#/components/schemas/${name}` }, examples![0]);
        return problem === null ? [] : [`${name}: ${problem}`];
      });
    expect(wrong).toEqual([]);
  });

  it('has the events that the docs explain and that messages cause', async () => {
    const docs = await readFile(join(project, 'docs/webhooks.md'), 'utf8');
    const types: string[] = document.components.schemas.EventResponse.properties.type.enum;
    expect(types.filter((type) => !docs.includes(`| \`${type}\` `))).toEqual([]);
    const statuses: string[] = document.components.schemas.MessageResponse.properties.status.enum;
    // A message that is being sent is our own business.
    const told = statuses.filter((status) => status !== 'sending').map((status) => `message.${status}`);
    expect(types).toEqual(expect.arrayContaining(told));
  });

  it('explains every code, with one status each', () => {
    const examples = Object.values(document.components.examples) as {
      value: { code: string; detail: string };
    }[];
    expect(examples.length).toBeGreaterThan(30);
    for (const { value } of examples) {
      expect(value.code).toMatch(/^[a-z_]+\.[a-z_]+$/);
      expect(value.detail.length, value.code).toBeGreaterThan(10);
    }
  });
});

function saysSomething(
  schema: { type?: unknown; properties?: object; format?: string } | undefined,
): boolean {
  if (!schema) return false;
  return schema.type !== 'object' || Object.keys(schema.properties ?? {}).length > 0;
}
