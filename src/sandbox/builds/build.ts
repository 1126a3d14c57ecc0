/** A build of WhatsApp Web: a version, and how its page differs from the other builds. */
export interface Build {
  name: string;
  /** What `Debug.VERSION` says. */
  version: string;
  /** The own field of a message key that holds the text of the key. */
  keyField: '_serialized' | '$1';
  /** Media that is prepared for a message carries `__x_id`, and a message that gets `__x_id` cannot be made. */
  mediaHasId: boolean;
}

/** What a release of WhatsApp breaks in a build: the change that nobody knows yet. */
export interface Damage {
  /** Modules, or members of modules as `Module.member`, that the page does not have; or `Debug.VERSION`. A renamed function is a missing member. */
  missing?: string[];
  /** Functions, as `Module.member`, that throw a TypeError. */
  throwing?: string[];
  /** Modules whose members cannot be replaced, so that shims have no effect. */
  frozen?: string[];
  /** No own field of a message key holds the text of the key. */
  keysWithoutText?: boolean;
  /** The page finds no message by its key. Events about messages still come. */
  blindLookups?: boolean;
}

/** A build as a page loads it. */
export interface LoadedBuild extends Build {
  damage?: Damage;
}
