import type { Damage } from '../wire/frames.js';

/** An object or a class of the page that has members. */
type Holder = Record<string, unknown>;

/** Breaks what a page gives to whatsapp-web.js and Flotilla. The page itself goes on with what it has. */
export function breakModules(modules: object, damage: Damage | undefined): void {
  if (!damage) return;
  const all = modules as Holder;
  if (damage.blindLookups) {
    const { Msg, ...others } = all.WAWebCollections as { Msg: object };
    all.WAWebCollections = { ...others, Msg: blind(Msg) };
  }
  for (const path of damage.throwing ?? [])
    change(all, path, () => () => {
      throw new TypeError(`${path} does not take that any more`);
    });
  for (const path of damage.missing ?? [])
    if (path === 'Debug.VERSION') window.Debug = {};
    else change(all, path, () => undefined);
  for (const name of damage.frozen ?? []) Object.freeze(all[name]);
}

/** Replaces a module, or a member of it, in a copy of everything on the way to it: the page keeps its own. */
function change(holder: Holder, path: string, replacement: () => unknown): void {
  const [name, ...rest] = path.split('.');
  if (rest.length === 0) {
    holder[name!] = replacement();
    return;
  }
  const held = holder[name!];
  if (held === undefined) throw new Error(`The page has no ${path}, so it cannot be broken.`);
  const copy = overlay(held as object);
  change(copy, rest.join('.'), replacement);
  holder[name!] = copy;
}

/** The same object, of which members can be replaced without changing it. Methods still get the object itself. */
function overlay(target: object): Holder {
  const replaced = new Map<PropertyKey, unknown>();
  return new Proxy(target, {
    get: (_target, name) => (replaced.has(name) ? replaced.get(name) : memberOf(target, name)),
    set: (_target, name, value) => Boolean(replaced.set(name, value)),
  }) as Holder;
}

function memberOf(target: object, name: PropertyKey): unknown {
  const value: unknown = Reflect.get(target, name);
  // Methods of classes use private fields, which a proxy does not have.
  return typeof value === 'function' && name !== 'constructor' && !isClass(value)
    ? value.bind(target)
    : value;
}

function isClass(value: object): boolean {
  return /^class\b/.test(String(value));
}

/** A collection that finds nothing by its key. */
function blind(collection: object): object {
  const copy = overlay(collection);
  copy.get = () => undefined;
  copy.getMessagesById = async () => ({ messages: [] });
  return copy;
}
