/** Events in the manner of Backbone, which WhatsApp Web's models follow. */
export class Emitter {
  // Private, so that no listener ever ends up in a serialised model.
  #listeners = new Map();

  /** Listens to one or several events, separated by spaces. */
  on(names, listener) {
    for (const name of names.split(' ')) {
      const listeners = this.#listeners.get(name);
      if (listeners) listeners.push(listener);
      else this.#listeners.set(name, [listener]);
    }
    return this;
  }

  off(names, listener) {
    for (const name of names.split(' ')) {
      const left = (this.#listeners.get(name) ?? []).filter(
        (other) => other !== listener && other.original !== listener,
      );
      if (listener && left.length > 0) this.#listeners.set(name, left);
      else this.#listeners.delete(name);
    }
    return this;
  }

  once(name, listener) {
    const wrapper = (...args) => {
      this.off(name, wrapper);
      return listener(...args);
    };
    wrapper.original = listener;
    return this.on(name, wrapper);
  }

  trigger(name, ...args) {
    const listeners = this.#listeners.get(name);
    if (!listeners) return this;
    for (const listener of [...listeners]) {
      try {
        listener(...args);
      } catch (error) {
        // One listener's mistake must not keep the others from hearing.
        console.error(error);
      }
    }
    return this;
  }

  hasListener(name) {
    return this.#listeners.has(name);
  }
}

const CHANGE_MS = 50;

/** A bag of attributes that tells about its changes, to its own listeners and to its collection's. */
export class Model extends Emitter {
  #collection;
  #isChanging = false;

  constructor(attributes) {
    super();
    Object.assign(this, attributes);
  }

  joinCollection(collection) {
    this.#collection = collection;
  }

  set(attributes) {
    const changes = [];
    for (const [name, value] of Object.entries(attributes)) {
      if (this[name] === value) continue;
      changes.push([name, value, this[name]]);
      this[name] = value;
    }
    for (const [name, value, previous] of changes) {
      this.#tell(`change:${name}`, this, value, previous);
    }
    if (changes.length > 0) this.#changed();
    return this;
  }

  serialize() {
    return { ...this };
  }

  toJSON() {
    return this.serialize();
  }

  /** Several changes in a short time are one 'change', as for a page that draws itself; each has its own 'change:name'. */
  #changed() {
    if (this.#isChanging) return;
    this.#isChanging = true;
    setTimeout(() => {
      this.#isChanging = false;
      this.#tell('change', this);
    }, CHANGE_MS);
  }

  #tell(name, ...args) {
    this.trigger(name, ...args);
    this.#collection?.trigger(name, ...args);
  }
}

/** Models by the text form of their id, at most `limit` of them: the oldest that may go make room. */
export class Collection extends Emitter {
  models = new Map();

  constructor(limit, mayGo = () => true) {
    super();
    this.limit = limit;
    this.mayGo = mayGo;
  }

  get length() {
    return this.models.size;
  }

  get(id) {
    return this.models.get(textOf(id));
  }

  add(model) {
    this.models.set(textOf(model.id), model);
    model.joinCollection(this);
    this.#makeRoom();
    this.trigger('add', model);
    return model;
  }

  /** Holds at most so many from now on. */
  setLimit(limit) {
    this.limit = limit;
    this.#makeRoom();
  }

  remove(model) {
    if (this.models.delete(textOf(model.id))) this.trigger('remove', model);
  }

  getModelsArray() {
    return [...this.models.values()];
  }

  filter(test) {
    return this.getModelsArray().filter(test);
  }

  #makeRoom() {
    // Those that have to stay are few and are passed over; the newest one always stays.
    let toRemove = this.models.size - this.limit;
    for (const [id, model] of this.models) {
      if (toRemove <= 0) return;
      if (!this.mayGo(model)) continue;
      this.models.delete(id);
      toRemove -= 1;
    }
  }
}

function textOf(id) {
  return typeof id === 'string' ? id : (id?._serialized ?? String(id));
}
