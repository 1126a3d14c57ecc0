/** What is looked for in anything, by `await`, by JSON and by vitest when it prints. */
const askedOfAnything = new Set(['then', 'toJSON', 'asymmetricMatch', '$$typeof', 'nodeType', 'tagName']);

/**
 * Stands in for something with the few members that a test needs. TypeScript holds each member, and what it answers, against
 * the real one; a member that the test did not give throws when it is used.
 */
export function fake<Real extends object>(members: Partial<Real>): Real {
  return new Proxy(members, {
    get(target, name) {
      if (name in target || typeof name === 'symbol' || askedOfAnything.has(name))
        return Reflect.get(target, name, target) as unknown;
      throw new Error(`This fake has no ${name}: give it one, if the test means it.`);
    },
  }) as Real;
}

/** Something real, of which the test has replaced a few members. */
export function changed<Real extends object>(real: Real, members: Partial<Real>): Real {
  return Object.assign(Object.create(real) as Real, members);
}
