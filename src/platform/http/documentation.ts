import { applyDecorators, SetMetadata, type Type } from '@nestjs/common';
import { ApiExtraModels, ApiOkResponse, getSchemaPath } from '@nestjs/swagger';
import { Problem } from '../errors/problem.js';
import type { Page } from './pagination.js';

const FAILURES = 'flotilla:failures';

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- each problem takes what it tells of
type ProblemClass = new (...about: any[]) => Problem;

/**
 * Says which problems a route may answer with, beside those that every route has: its role, its key, its validation.
 * Status, code and wording come from the class itself; where a class has several codes, give one instance for each.
 */
export const Fails = (...problems: (ProblemClass | Problem)[]) => SetMetadata(FAILURES, problems);

/** What {@link Fails} says of a handler. */
export function failuresOf(handler: object): Problem[] {
  const problems = (Reflect.getMetadata(FAILURES, handler) ?? []) as (ProblemClass | Problem)[];
  return problems.map((problem) =>
    problem instanceof Problem
      ? problem
      : new problem(...Array.from({ length: problem.length }, () => blank)),
  );
}

/**
 * Stands for whatever a problem tells of, and reads as `…`: a text, an id, a row with any field, a list.
 */
const blank: unknown = new Proxy(() => '…', {
  get: (_target, key) => {
    if (key === Symbol.toPrimitive) return () => '…';
    if (key === Symbol.iterator) return [][Symbol.iterator];
    return blank;
  },
  apply: () => blank,
});

/** The answer is a page of these, of several kinds where there are several. The type of the method is checked against it. */
export function Paged<Items extends Type[]>(...items: Items) {
  const schemas = items.map((item) => ({ $ref: getSchemaPath(item) }));
  return (
    target: object,
    key: string,
    descriptor: TypedPropertyDescriptor<
      // eslint-disable-next-line @typescript-eslint/no-explicit-any -- whatever a handler takes
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
