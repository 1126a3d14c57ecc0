import { randomBytes, randomInt } from 'node:crypto';
import { join } from 'node:path';
import { BadRequestException, NotFoundException } from '@nestjs/common';
import { parsePhoneNumberFromString } from 'libphonenumber-js';
import { Journal } from '../journal/journal.js';

/** A simulated phone: a registered WhatsApp number and its owner. */
export interface Phone {
  phone: string;
  name: string;
  createdAt: string;
  /** Shows its number to nobody who does not have it: others know the LID alone. */
  hidesNumber?: boolean;
  /** Nobody may add it to a group without an invite that it accepts. */
  joinsByInviteOnly?: boolean;
  isBusiness?: boolean;
  /** The file name of its profile picture. */
  picture?: string | null;
}

/** What a phone's owner can change about it. */
export type PhoneSettings = Partial<Omit<Phone, 'phone' | 'createdAt'>>;

/** Somebody in the address book of a phone; a null name takes them out of it. */
export interface PhoneContact {
  owner: string;
  phone: string;
  name: string | null;
}

/** A browser that is linked to a phone. Its secret was made in the browser and reached the phone in the QR code. */
export interface Credential {
  id: string;
  phone: string;
  secret: string;
  noisePublicKey: string;
  device: string;
  linkedAt: string;
}

type PhoneLine = { phone: Phone } | { link: Credential } | { unlink: string } | { contact: PhoneContact };

/** The registered numbers and the browsers linked to them, kept in `phones.ndjson`. */
export class PhoneBook {
  private readonly phones = new Map<string, Phone>();
  private readonly credentials = new Map<string, Credential>();
  private readonly linked = new Map<string, Set<Credential>>();
  private readonly contacts = new Map<string, Map<string, string>>();
  private journal!: Journal;

  private constructor() {}

  /** Restores the phone book from its directory. */
  static async open(dir: string): Promise<PhoneBook> {
    const book = new PhoneBook();
    book.journal = await Journal.open(join(dir, 'phones.ndjson'), (line) => {
      book.apply(JSON.parse(line) as PhoneLine);
    });
    return book;
  }

  /** Registers a number; without one, invents an Indonesian mobile number. */
  async create(input?: string, name?: string): Promise<Phone> {
    const phone = input === undefined ? this.inventNumber() : digitsOf(input);
    const known = this.phones.get(phone);
    if (known) return known;
    const entry: Phone = {
      phone,
      name: name ?? `Phone ${phone.slice(-4)}`,
      createdAt: new Date().toISOString(),
    };
    await this.write({ phone: entry });
    return entry;
  }

  /** Changes what a phone's owner can change. */
  async change(number: string, settings: PhoneSettings): Promise<Phone> {
    const entry = { ...this.require(number), ...settings };
    await this.write({ phone: entry });
    return entry;
  }

  /** Writes somebody into a phone's address book, or out of it. */
  async saveContact(contact: PhoneContact): Promise<void> {
    await this.write({ contact });
  }

  /** The address book of a phone. */
  contactsOf(owner: string): { phone: string; name: string }[] {
    return Array.from(this.contacts.get(owner) ?? [], ([phone, name]) => ({ phone, name }));
  }

  /** The phone with this number, which may be written in any usual notation. */
  require(input: string): Phone {
    const digits = digitsOf(input);
    const phone = this.phones.get(digits);
    if (!phone) {
      throw new NotFoundException(`No phone has the number ${digits}: create it with POST /phones first.`);
    }
    return phone;
  }

  /** The phone with exactly these digits. */
  find(digits: string): Phone | undefined {
    return this.phones.get(digits);
  }

  /** All phones in the order of their creation, after `after` if given. */
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

  /** Forgets a linked browser: its next connection is refused. */
  async unlink(id: string): Promise<void> {
    if (this.credentials.has(id)) await this.write({ unlink: id });
  }

  /** The linked browser with this credential. */
  credential(id: string): Credential | undefined {
    return this.credentials.get(id);
  }

  /** The browsers linked to a phone. */
  companionsOf(phone: string): Iterable<Credential> {
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
    } else if ('link' in line) {
      this.credentials.set(line.link.id, line.link);
      const companions = this.linked.get(line.link.phone) ?? new Set();
      this.linked.set(line.link.phone, companions.add(line.link));
    } else if ('contact' in line) {
      const { owner, phone, name } = line.contact;
      const contacts = this.contacts.get(owner) ?? new Map<string, string>();
      this.contacts.set(owner, contacts);
      if (name === null) contacts.delete(phone);
      else contacts.set(phone, name);
    } else {
      const credential = this.credentials.get(line.unlink);
      if (!credential) return;
      this.credentials.delete(line.unlink);
      this.linked.get(credential.phone)?.delete(credential);
    }
  }

  private inventNumber(): string {
    for (;;) {
      const phone = `62812${String(randomInt(0, 100_000_000)).padStart(8, '0')}`;
      if (!this.phones.has(phone) && parsePhoneNumberFromString(`+${phone}`)?.isValid()) {
        return phone;
      }
    }
  }
}

/** Reads a phone number with country code in any usual notation, or a chat id, into bare digits. */
export function digitsOf(input: string): string {
  const chat = /^(\d+)@c\.us$/.exec(input.trim());
  const text = (chat?.[1] ?? input).trim().replace(/^00/, '+');
  const parsed = parsePhoneNumberFromString(text.startsWith('+') ? text : `+${text}`);
  if (!parsed?.isPossible()) {
    throw new BadRequestException(
      `"${input}" is not a phone number: write it with its country code, for example +62 812 3456 7890.`,
    );
  }
  return parsed.number.slice(1);
}

/** WhatsApp's anonymous id of a number ("LID"); the simulation derives it so that both sides know it. */
export function lidOf(phone: string): string {
  return `1${[...phone].reverse().join('')}`;
}
