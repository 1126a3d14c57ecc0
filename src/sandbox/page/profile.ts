import type { OwnProfile } from '../wire/frames.js';
import { build } from './build.js';
import { Model, type ModelWith } from './events.js';
import { createWid, lidOfPhone, phoneOfWid, type Wid, widOfPhone } from './ids.js';
import type { Link } from './link.js';
import type { Account, Collections, Contact } from './models.js';

interface BusinessProfileAttributes {
  id: Wid;
  description: string | undefined;
  email: string | undefined;
  address: string | undefined;
  website: string[];
  categories: { id: string; localized_display_name: string }[];
  profileOptions: object;
}

/** What a business says of itself, as WhatsApp Web keeps it. */
export class BusinessProfile extends (Model as ModelWith<BusinessProfileAttributes>) {}

/** An entry of the block list. */
export class Blocked extends (Model as ModelWith<{ id: Wid }>) {}

interface ProfileOptions {
  link: Link;
  account: Account;
  /** Where the own name and the platform are. */
  conn: Model<{ pushname: string; platform: string }>;
}

/** The own profile, the block list, and what others say of themselves. */
export class Profile {
  #link: Link;
  #account: Account;
  #conn: ProfileOptions['conn'];
  #collections!: Collections;
  #isBusiness = false;

  constructor({ link, account, conn }: ProfileOptions) {
    this.#link = link;
    this.#account = account;
    this.#conn = conn;
  }

  attach(collections: Collections): void {
    this.#collections = collections;
    collections.Contact.on('add', (contact) => {
      const { id } = contact as Contact;
      if (this.#entryOf(phoneOfWid(id))) (contact as Contact).isContactBlocked = true;
    });
    collections.BusinessProfile.find = async (id) => this.#businessOf(createWid(String(id)));
  }

  /** The modules of WhatsApp Web for blocking, for texts about people and for the own name. */
  get modules() {
    return {
      WAWebBlockContactUtils: build.hasContactToBlock
        ? { getContactToBlockOnlyUseIfNoAssociatedChat: (contact: Contact) => this.#toBlock(contact) }
        : {},
      WAWebBlockContactAction: {
        blockContact: ({ contact }: { contact: Contact }) => this.#block(contact, true),
        unblockContact: (contact: Contact) => this.#block(contact, false),
      },
      WAWebContactStatusBridge: {
        getStatus: ({ wid }: { wid: Wid }) => this.#aboutOf(wid),
        setMyStatus: async (text: string | null) => {
          await this.#link.ask('set-about', { text });
        },
      },
      WAWebSetPushnameConnAction: {
        setPushname: async (name: string) => {
          await this.#link.ask('set-name', { text: name });
          this.#conn.set({ pushname: name });
        },
      },
    };
  }

  /** The name of a business is set on the phone. */
  get canSetName(): boolean {
    return !this.#isBusiness;
  }

  /** Takes in what the server says of this account. */
  set({ name, isBusiness, blocked }: OwnProfile): void {
    this.#isBusiness = isBusiness;
    this.#conn.set({ pushname: name, platform: isBusiness ? 'smba' : 'android' });
    const { Blocklist } = this.#collections;
    const now = new Set(blocked);
    for (const { id } of Blocklist.getModelsArray())
      if (!now.has(phoneOfWid(id))) this.#mark(phoneOfWid(id), false);
    for (const phone of blocked) this.#mark(phone, true);
  }

  /** Where block lists hold LIDs, the contact under the LID is blocked. */
  #toBlock(contact: Contact): Contact {
    if (!build.blocklistHasLids || contact.id.isLid() || !contact.lid) return contact;
    return this.#collections.Contact.gadd(contact.lid);
  }

  async #block(contact: Contact, blocked: boolean): Promise<void> {
    const phone = phoneOfWid(contact.id);
    if (Boolean(this.#entryOf(phone)) === blocked) return;
    await this.#link.ask('block', { phone, blocked });
    this.#mark(phone, blocked);
  }

  #mark(phone: string, blocked: boolean): void {
    const { Blocklist, Contact: contacts } = this.#collections;
    const entry = this.#entryOf(phone);
    const id = build.blocklistHasLids ? lidOfPhone(phone) : widOfPhone(phone);
    if (blocked && !entry) Blocklist.add(new Blocked({ id }));
    if (!blocked && entry) Blocklist.remove(entry);
    for (const wid of [widOfPhone(phone), lidOfPhone(phone)])
      contacts.get(wid)?.set({ isContactBlocked: blocked });
  }

  #entryOf(phone: string): Blocked | undefined {
    const { Blocklist } = this.#collections;
    return Blocklist.get(widOfPhone(phone)) ?? Blocklist.get(lidOfPhone(phone));
  }

  async #aboutOf(wid: Wid): Promise<{ id: Wid; status: string | null; stale?: true }> {
    const found = await this.#link.ask('about', { phone: phoneOfWid(wid) }, { changesNothing: true });
    if (found) return { id: wid, status: found.about };
    // The account may have removed its own text; another one may be hidden.
    const isMe = phoneOfWid(wid) === this.#account.me?.user;
    return isMe ? { id: wid, status: null } : { id: wid, stale: true, status: null };
  }

  async #businessOf(id: Wid): Promise<BusinessProfile | undefined> {
    if (!id.isUser()) return undefined;
    const phone = phoneOfWid(id);
    const found = await this.#link.ask('business', { phone }, { changesNothing: true });
    if (!found) return undefined;
    const { description, email, address, category, websites = [] } = found;
    const profile = new BusinessProfile({
      id,
      description,
      email,
      address,
      website: websites,
      categories: category ? [{ id: category, localized_display_name: category }] : [],
      profileOptions: { commerceExperience: 'none', cartEnabled: false },
    });
    const { BusinessProfile: profiles } = this.#collections;
    const known = profiles.get(id);
    if (known) profiles.remove(known);
    return profiles.add(profile);
  }
}
