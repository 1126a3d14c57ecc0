import { applyDecorators, SetMetadata, type Type } from '@nestjs/common';
import { ApiExtraModels, ApiOkResponse, getSchemaPath } from '@nestjs/swagger';
import { Problem } from '../errors/problem.js';
import type { Page } from './pagination.js';

const FAILURES = 'flotilla:failures';

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- each problem has its own arguments
type ProblemClass = new (...about: any[]) => Problem;

/**
 * Lists the problems of a route, besides those that every route has: role, key, validation. Status, code and text come from the
 * class. If a class has several codes, list one instance for each code.
 */
export const Fails = (...problems: (ProblemClass | Problem)[]) => SetMetadata(FAILURES, problems);

/** The problems that {@link Fails} lists for a handler. */
export function failuresOf(handler: object): Problem[] {
  const problems = (Reflect.getMetadata(FAILURES, handler) ?? []) as (ProblemClass | Problem)[];
  return problems.map((problem) =>
    problem instanceof Problem
      ? problem
      : new problem(...Array.from({ length: problem.length }, () => blank)),
  );
}

/**
 * A placeholder for any argument of a problem (a text, an id, a row with any field, a list). Its text is `…`.
 */
const blank: unknown = new Proxy(() => '…', {
  get: (_target, key) => {
    if (key === Symbol.toPrimitive) return () => '…';
    if (key === Symbol.iterator) return [][Symbol.iterator];
    return blank;
  },
  apply: () => blank,
});

/** Documents that the answer is a page of items of these classes. TypeScript checks the type of the method against them. */
export function Paged<Items extends Type[]>(...items: Items) {
  const schemas = items.map((item) => ({ $ref: getSchemaPath(item) }));
  return (
    target: object,
    key: string,
    descriptor: TypedPropertyDescriptor<
      // eslint-disable-next-line @typescript-eslint/no-explicit-any -- a handler has any arguments
      (...given: any[]) => Promise<Page<InstanceType<Items[number]>>>
    >,
  ): void =>
    applyDecorators(
      ApiExtraModels(...items),
      ApiOkResponse({
        schema: {
          type: 'object',
          properties: {
            items: { type: 'array', items: schemas.length === 1 ? schemas[0]! : { anyOf: schemas } },
            nextCursor: {
              type: 'string',
              nullable: true,
              description: 'The `cursor` of the next page; null at the end.',
            },
          },
          required: ['items', 'nextCursor'],
        },
      }),
    )(target, key, descriptor);
}
