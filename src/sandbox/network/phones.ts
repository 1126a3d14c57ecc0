import { randomBytes, randomInt } from 'node:crypto';
import { join } from 'node:path';
import { ConflictException, NotFoundException } from '@nestjs/common';
import { parsePhoneNumberFromString } from 'libphonenumber-js/max';
import { digitsOf } from '../addresses.js';
import { Journal } from '../journal/journal.js';
import type { BusinessProfile } from './business-profile.js';

/** The text under the name of a phone whose owner has not changed it. */
export const DEFAULT_ABOUT = 'Hey there! I am using WhatsApp.';

/** A simulated phone: a registered WhatsApp number and its owner. */
export interface Phone {
  phone: string;
  name: string;
  createdAt: string;
  /** Hides its number: other people see the LID only. */
  hidesNumber?: boolean;
  /** Joins a group only by accepting an invite. */
  joinsByInviteOnly?: boolean;
  /** Nobody sees when it was online last. */
  hidesLastSeen?: boolean;
  isBusiness?: boolean;
  /** The text under the name; null when it was removed. A new phone has WhatsApp's own. */
  about?: string | null;
  businessProfile?: BusinessProfile;
  /** Other forms of its number: WhatsApp answers a check of them with the number itself, and has no chat under them. */
  aliases?: string[];
  /** The file name of its profile picture. */
  picture?: string | null;
  /** The tenant that may link browsers to it. Without one, the first tenant that links a browser to it gets it. */
  tenant?: string;
}

/** What the owner of a phone can change about it. */
export type PhoneSettings = Partial<Omit<Phone, 'phone' | 'createdAt' | 'aliases' | 'tenant'>>;

/** A person in the address book of a phone; a null name removes the person. */
export interface PhoneContact {
  owner: string;
  phone: string;
  name: string | null;
}

/** A person that the owner of a phone blocks, or blocks no longer. */
export interface Block {
  owner: string;
  phone: string;
  blocked: boolean;
}

/** Identifies a browser that is linked to a phone. The browser makes the secret and shows it to the phone in the QR code. */
export interface Credential {
  id: string;
  phone: string;
  secret: string;
  noisePublicKey: string;
  device: string;
  linkedAt: string;
}

type PhoneLine =
  | { phone: Phone }
  | { link: Credential }
  | { unlink: string }
  | { contact: PhoneContact }
  | { block: Block }
  | { moved: { from: string; to: string } };

/** The registered phones, their address books and the browsers that are linked to them, in `phones.ndjson`. */
export class PhoneRegistry {
  private readonly phones = new Map<string, Phone>();
  /** The phones by the other forms of their numbers. */
  private readonly byAlias = new Map<string, Phone>();
  private readonly credentials = new Map<string, Credential>();
  private readonly linked = new Map<string, Set<Credential>>();
  private readonly contacts = new Map<string, Map<string, string>>();
  private readonly blocks = new Map<string, Set<string>>();
  private journal!: Journal;

  private constructor() {}

  /** Restores the registry from its directory. */
  static async open(dir: string): Promise<PhoneRegistry> {
    const registry = new PhoneRegistry();
    registry.journal = await Journal.open(join(dir, 'phones.ndjson'), (line) => {
      registry.apply(JSON.parse(line) as PhoneLine);
    });
    return registry;
  }

  /**
   * Registers a number, or an invented Indonesian mobile number. A registered number stays as it is.
   * @param aliases other forms of the number
   * @throws ConflictException if a form of the number belongs to another phone
   */
  async create(input?: string, name?: string, aliases: string[] = []): Promise<Phone> {
    const phone = input === undefined ? this.inventNumber() : digitsOf(input);
    const known = this.phones.get(phone);
    if (known) return known;
    const forms = aliases.map(digitsOf);
    const taken = [phone, ...forms].find((form) => this.phones.has(form) || this.byAlias.has(form));
    if (taken !== undefined)
      throw new ConflictException(`${taken} is a number of another phone: choose another number.`);
    const entry: Phone = {
      phone,
      name: name ?? `Phone ${phone.slice(-4)}`,
      createdAt: new Date().toISOString(),
      ...(forms.length > 0 ? { aliases: forms } : {}),
    };
    await this.write({ phone: entry });
    return entry;
  }

  /** Changes settings of a phone. */
  async change(number: string, settings: PhoneSettings): Promise<Phone> {
    const entry = { ...this.require(number), ...settings };
    await this.write({ phone: entry });
    return entry;
  }

  /**
   * Gives a phone to a tenant for good, unless it has a tenant.
   * @throws NotFoundException if the phone belongs to another tenant, as if the number were not registered
   */
  async claim({ phone }: Phone, tenant: string): Promise<void> {
    const entry = this.require(phone);
    if (entry.tenant === tenant) return;
    if (entry.tenant !== undefined) throw noPhone(phone);
    // `write` applies the line before it waits, so two tenants at the same moment cannot both get the phone.
    await this.write({ phone: { ...entry, tenant } });
  }

  /** Adds a person to the address book of a phone, or removes one. */
  async saveContact(contact: PhoneContact): Promise<void> {
    await this.write({ contact });
  }

  /** The people in the address book of a phone who have WhatsApp. */
  contactsOf(owner: string): { phone: string; name: string }[] {
    const people = [...(this.contacts.get(owner) ?? [])].filter(([phone]) => this.phones.has(phone));
    return people.map(([phone, name]) => ({ phone, name }));
  }

  /** The phones that have this number in their address books. */
  ownersThatKnow(phone: string): string[] {
    return [...this.contacts].filter(([, contacts]) => contacts.has(phone)).map(([owner]) => owner);
  }

  /** Blocks a person, or ends that. */
  async block(block: Block): Promise<void> {
    if (this.hasBlocked(block.owner, block.phone) !== block.blocked) await this.write({ block });
  }

  /** Whether the owner of a phone has blocked a person. */
  hasBlocked(owner: string, phone: string): boolean {
    return this.blocks.get(owner)?.has(phone) ?? false;
  }

  /** The numbers that the owner of a phone has blocked, in the order of blocking. */
  blockedBy(owner: string): string[] {
    return [...(this.blocks.get(owner) ?? [])];
  }

  /**
   * Moves the account of a phone to a new number. The old number is registered no longer. The address book and the block list move too.
   * Linked browsers belong to the old number: unlink them first.
   */
  async move(from: string, to: string): Promise<Phone> {
    await this.write({ moved: { from, to } });
    return this.require(to);
  }

  /**
   * The phone with this number, in any usual notation.
   * @throws NotFoundException
   */
  require(input: string): Phone {
    const digits = digitsOf(input);
    const phone = this.phones.get(digits);
    if (!phone) throw noPhone(digits);
    return phone;
  }

  /** The phone with exactly these digits. */
  find(digits: string): Phone | undefined {
    return this.phones.get(digits);
  }

  /** The phone with these digits, or with these digits as another form of its number. */
  findByAnyForm(digits: string): Phone | undefined {
    return this.phones.get(digits) ?? this.byAlias.get(digits);
  }

  /** The phones in the order of their creation; with `after`, those after this number. */
  list(after: string | undefined, limit: number): { items: Phone[]; nextCursor: string | null } {
    const items: Phone[] = [];
    let started = after === undefined;
    for (const phone of this.phones.values()) {
      if (started) {
        if (items.length === limit) return { items, nextCursor: items.at(-1)?.phone ?? null };
        items.push(phone);
      } else if (phone.phone === after) {
        started = true;
      }
    }
    return { items, nextCursor: null };
  }

  /** Links a browser to a phone. */
  async link(link: Omit<Credential, 'id' | 'linkedAt'>): Promise<Credential> {
    const credential: Credential = {
      ...link,
      id: randomBytes(16).toString('hex'),
      linkedAt: new Date().toISOString(),
    };
    await this.write({ link: credential });
    return credential;
  }

  /** Removes the credential of a browser: its next connection is refused. */
  async unlink(id: string): Promise<void> {
    if (this.credentials.has(id)) await this.write({ unlink: id });
  }

  /** The credential with this id. */
  credential(id: string): Credential | undefined {
    return this.credentials.get(id);
  }

  /** The credentials of the browsers that are linked to a phone. */
  credentialsOf(phone: string): Iterable<Credential> {
    return this.linked.get(phone) ?? [];
  }

  /** How many phones there are. */
  get size(): number {
    return this.phones.size;
  }

  /** How many browsers are linked. */
  get linkedCount(): number {
    return this.credentials.size;
  }

  /** Closes the file. */
  async close(): Promise<void> {
    await this.journal.close();
  }

  private async write(line: PhoneLine): Promise<void> {
    const { written } = this.journal.append(JSON.stringify(line));
    this.apply(line);
    await written;
  }

  private apply(line: PhoneLine): void {
    if ('phone' in line) {
      this.phones.set(line.phone.phone, line.phone);
      for (const alias of line.phone.aliases ?? []) this.byAlias.set(alias, line.phone);
    } else if ('link' in line) {
      this.credentials.set(line.link.id, line.link);
      const credentials = this.linked.get(line.link.phone) ?? new Set();
      this.linked.set(line.link.phone, credentials.add(line.link));
    } else if ('contact' in line) {
      const { owner, phone, name } = line.contact;
      const contacts = this.contacts.get(owner) ?? new Map<string, string>();
      this.contacts.set(owner, contacts);
      if (name === null) contacts.delete(phone);
      else contacts.set(phone, name);
    } else if ('block' in line) {
      const { owner, phone, blocked } = line.block;
      const blocks = this.blocks.get(owner) ?? new Set<string>();
      this.blocks.set(owner, blocks);
      if (blocked) blocks.add(phone);
      else blocks.delete(phone);
    } else if ('moved' in line) {
      this.applyMove(line.moved);
    } else {
      const credential = this.credentials.get(line.unlink);
      if (!credential) return;
      this.credentials.delete(line.unlink);
      this.linked.get(credential.phone)?.delete(credential);
    }
  }

  private applyMove({ from, to }: { from: string; to: string }): void {
    const phone = this.phones.get(from);
    if (!phone) return;
    this.phones.delete(from);
    this.phones.set(to, { ...phone, phone: to });
    const [contacts, blocks] = [this.contacts.get(from), this.blocks.get(from)];
    this.contacts.delete(from);
    this.blocks.delete(from);
    if (contacts) this.contacts.set(to, contacts);
    if (blocks) this.blocks.set(to, blocks);
  }

  private inventNumber(): string {
    for (;;) {
      const phone = `62812${String(randomInt(0, 100_000_000)).padStart(8, '0')}`;
      if (
        !this.phones.has(phone) &&
        !this.byAlias.has(phone) &&
        parsePhoneNumberFromString(`+${phone}`)?.isValid()
      ) {
        return phone;
      }
    }
  }
}

function noPhone(digits: string): NotFoundException {
  return new NotFoundException(`No phone has the number ${digits}: create it with POST /phones first.`);
}
