/** The arguments of each event. */
type EventMap = Record<string, unknown[]>;

interface Listener {
  (...args: never[]): unknown;
  /** The listener that `once` was given. */
  original?: Listener;
}

/** Events as Backbone has them: WhatsApp Web's models work that way. */
export class Emitter<Events extends { [Name in keyof Events]: unknown[] } = EventMap> {
  // Private: no listener ever becomes part of a serialised model.
  #listeners = new Map<string, Listener[]>();

  /** Listens to one event, or to several with spaces between their names. */
  on<Name extends keyof Events & string>(names: Name, listener: (...args: Events[Name]) => unknown): this {
    for (const name of names.split(' ')) {
      const listeners = this.#listeners.get(name);
      if (listeners) listeners.push(listener);
      else this.#listeners.set(name, [listener]);
    }
    return this;
  }

  off<Name extends keyof Events & string>(names: Name, listener?: (...args: Events[Name]) => unknown): this {
    for (const name of names.split(' ')) {
      const left = (this.#listeners.get(name) ?? []).filter(
        (other) => other !== listener && other.original !== listener,
      );
      if (listener && left.length > 0) this.#listeners.set(name, left);
      else this.#listeners.delete(name);
    }
    return this;
  }

  once<Name extends keyof Events & string>(name: Name, listener: (...args: Events[Name]) => unknown): this {
    const wrapper = (...args: Events[Name]): unknown => {
      this.off(name, wrapper);
      return listener(...args);
    };
    wrapper.original = listener;
    return this.on(name, wrapper);
  }

  trigger<Name extends keyof Events & string>(name: Name, ...args: Events[Name]): this {
    const listeners = this.#listeners.get(name);
    if (!listeners) return this;
    for (const listener of [...listeners]) {
      try {
        // `on` has checked that the listener takes the arguments of this event.
        listener(...(args as unknown[] as never[]));
      } catch (error) {
        // The error of one listener must not keep the event from the others.
        console.error(error);
      }
    }
    return this;
  }

  hasListener(name: keyof Events & string): boolean {
    return this.#listeners.has(name);
  }
}

const CHANGE_MS = 50;

/** A set of attributes that tells of its changes, to its own listeners and to those of its collection. */
export class Model<Attributes extends object> extends Emitter {
  #collection: Emitter | undefined;
  #isChanging = false;

  constructor(attributes: Attributes) {
    super();
    Object.assign(this, attributes);
  }

  joinCollection(collection: Emitter): void {
    this.#collection = collection;
  }

  set(attributes: Partial<Attributes>): this {
    const changes: [name: string, value: unknown, previous: unknown][] = [];
    for (const [name, value] of Object.entries(attributes)) {
      if (this[name as keyof this] === value) continue;
      changes.push([name, value, this[name as keyof this]]);
      this[name as keyof this] = value as this[keyof this];
    }
    for (const [name, value, previous] of changes) {
      this.#tell(`change:${name}`, this, value, previous);
    }
    if (changes.length > 0) this.#changed();
    return this;
  }

  /** Tells its own listeners and those of its collection. */
  announce(name: string, ...args: unknown[]): void {
    this.#tell(name, ...args);
  }

  serialize(): object {
    return { ...this };
  }

  toJSON(): object {
    return this.serialize();
  }

  /** Changes within a short time make one 'change', as when a page draws itself; each has its own 'change:name'. */
  #changed(): void {
    if (this.#isChanging) return;
    this.#isChanging = true;
    setTimeout(() => {
      this.#isChanging = false;
      this.#tell('change', this);
    }, CHANGE_MS);
  }

  #tell(name: string, ...args: unknown[]): void {
    this.trigger(name, ...args);
    this.#collection?.trigger(name, ...args);
  }
}

/**
 * `Model` as the base of a class whose instances have these attributes: TypeScript does not see that `Object.assign` makes
 * properties of them. Fields in the class would be properties too early, and in another order.
 */
export type ModelWith<Attributes extends object> = new (
  attributes: Attributes,
) => Model<Attributes> & Attributes;

/** An id, or its text form. */
export type IdLike = string | { toString(): string };

interface Member {
  id: IdLike;
  joinCollection(collection: Emitter): void;
}

/** Models by the text form of their id, at most `limit` of them: the oldest that may go make room. */
export class Collection<M extends Member> extends Emitter {
  models = new Map<string, M>();
  declare limit: number;
  declare mayGo: (model: M) => boolean;

  constructor(limit: number, mayGo: (model: M) => boolean = () => true) {
    super();
    this.limit = limit;
    this.mayGo = mayGo;
  }

  get length(): number {
    return this.models.size;
  }

  get(id: IdLike | undefined): M | undefined {
    return this.models.get(textOf(id));
  }

  add(model: M): M {
    this.models.set(textOf(model.id), model);
    model.joinCollection(this);
    this.#makeRoom();
    this.trigger('add', model);
    return model;
  }

  /** Holds at most this many from now on. */
  setLimit(limit: number): void {
    this.limit = limit;
    this.#makeRoom();
  }

  /** Holds a model under another id, in its old place. */
  replaceId(before: IdLike, after: IdLike): void {
    const [from, to] = [textOf(before), textOf(after)];
    this.models = new Map(Array.from(this.models, ([id, model]) => [id === from ? to : id, model]));
  }

  remove(model: M): void {
    if (this.models.delete(textOf(model.id))) this.trigger('remove', model);
  }

  getModelsArray(): M[] {
    return [...this.models.values()];
  }

  filter(test: (model: M) => unknown): M[] {
    return this.getModelsArray().filter(test);
  }

  #makeRoom(): void {
    // Few have to stay: they are passed over. The newest one always stays.
    let toRemove = this.models.size - this.limit;
    for (const [id, model] of this.models) {
      if (toRemove <= 0) return;
      if (!this.mayGo(model)) continue;
      this.models.delete(id);
      toRemove -= 1;
    }
  }
}

/** The text form of an id. */
export function textOf(id: IdLike | undefined): string {
  if (typeof id === 'string') return id;
  return (id as { _serialized?: string } | undefined)?._serialized ?? String(id);
}
