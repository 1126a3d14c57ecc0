import { randomBytes, randomInt } from 'node:crypto';
import { join } from 'node:path';
import { BadRequestException, NotFoundException } from '@nestjs/common';
import { Journal } from '../journal/journal.js';

/** Somebody in a group. Who made it is its superadmin. */
export interface Member {
  phone: string;
  role: 'member' | 'admin' | 'superadmin';
}

/** A simulated group. */
export interface Group {
  /** The whole address, with `@g.us`. */
  id: string;
  subject: string;
  description: string;
  /** Changes with the description. */
  descriptionId: string;
  owner: string;
  createdAt: string;
  /** Only admins write. */
  announce: boolean;
  /** Only admins change subject, description and picture. */
  restrict: boolean;
  /** Only admins add members. */
  adminsAdd: boolean;
  /** The code of its invite link. */
  invite: string;
  members: Member[];
  /** The file name of its picture. */
  picture: string | null;
  /** Grows with every change, so that a page can tell the newer of two states. */
  version: number;
}

/** What a group can be set to. */
export type GroupSettings = Pick<
  Group,
  'subject' | 'description' | 'announce' | 'restrict' | 'adminsAdd' | 'picture'
>;

/** WhatsApp's own limit. */
export const MAX_MEMBERS = 1024;

/** The groups, kept in `groups.ndjson`: each line is a whole group as it was after a change. */
export class GroupBook {
  private readonly groups = new Map<string, Group>();
  private readonly byMember = new Map<string, Set<string>>();
  private journal!: Journal;

  private constructor() {}

  /** Restores the groups from their directory. */
  static async open(dir: string): Promise<GroupBook> {
    const book = new GroupBook();
    book.journal = await Journal.open(join(dir, 'groups.ndjson'), (line) => {
      book.apply(JSON.parse(line) as Group);
    });
    await book.journal.rewrite(() => [...book.groups.values()].map((group) => JSON.stringify(group)));
    return book;
  }

  /** The group with this address. */
  find(id: string): Group | undefined {
    return this.groups.get(id);
  }

  /** @throws NotFoundException */
  require(id: string): Group {
    const group = this.groups.get(id);
    if (!group) throw new NotFoundException(`There is no group ${id}: create it with POST /groups first.`);
    return group;
  }

  /** The group that an invite code lets people into. */
  findByInvite(code: string): Group | undefined {
    for (const group of this.groups.values()) if (group.invite === code) return group;
    return undefined;
  }

  /** All groups, or those that a phone is in. */
  list(member?: string): Group[] {
    if (member === undefined) return [...this.groups.values()];
    return [...(this.byMember.get(member) ?? [])].map((id) => this.groups.get(id)!);
  }

  /** Whether a phone is in a group, and as what. */
  roleOf(group: Group, phone: string): Member['role'] | undefined {
    return group.members.find((member) => member.phone === phone)?.role;
  }

  /** Whether a phone is one of a group's admins. */
  isAdmin(group: Group, phone: string): boolean {
    const role = this.roleOf(group, phone);
    return role === 'admin' || role === 'superadmin';
  }

  /** A new group with its owner and others in it. */
  async create(
    owner: string,
    members: string[],
    settings: Partial<GroupSettings> & { subject: string },
  ): Promise<Group> {
    if (members.length >= MAX_MEMBERS)
      throw new BadRequestException(`A group has at most ${MAX_MEMBERS} members.`);
    const others = members.filter((phone) => phone !== owner);
    return this.save({
      id: this.inventId(),
      description: '',
      descriptionId: '',
      announce: false,
      restrict: false,
      adminsAdd: false,
      picture: null,
      ...settings,
      owner,
      createdAt: new Date().toISOString(),
      invite: newInvite(),
      members: [
        { phone: owner, role: 'superadmin' },
        ...others.map((phone) => ({ phone, role: 'member' as const })),
      ],
      version: 0,
    });
  }

  /** Changes a group. A new description gets a new id. */
  async change(group: Group, changes: Partial<GroupSettings>): Promise<Group> {
    const descriptionId =
      changes.description === undefined ? group.descriptionId : randomBytes(10).toString('hex');
    return this.save({ ...group, ...changes, descriptionId });
  }

  /** Changes who is in a group. */
  async setMembers(group: Group, members: Member[]): Promise<Group> {
    return this.save({ ...group, members });
  }

  /** Makes the invite links that are out useless. */
  async resetInvite(group: Group): Promise<Group> {
    return this.save({ ...group, invite: newInvite() });
  }

  /** Closes the file. */
  async close(): Promise<void> {
    await this.journal.close();
  }

  private async save(group: Group): Promise<Group> {
    const next = { ...group, version: group.version + 1 };
    const { written } = this.journal.append(JSON.stringify(next));
    this.apply(next);
    await written;
    return next;
  }

  private apply(group: Group): void {
    for (const { phone } of this.groups.get(group.id)?.members ?? [])
      this.byMember.get(phone)?.delete(group.id);
    this.groups.set(group.id, group);
    for (const { phone } of group.members) {
      const groups = this.byMember.get(phone) ?? new Set();
      this.byMember.set(phone, groups.add(group.id));
    }
  }

  private inventId(): string {
    for (;;) {
      const id = `120363${String(randomInt(0, 1_000_000_000_000)).padStart(12, '0')}@g.us`;
      if (!this.groups.has(id)) return id;
    }
  }
}

function newInvite(): string {
  return randomBytes(16).toString('base64url').slice(0, 22);
}

/** Whether an address is a group's. */
export function isGroupId(address: string): boolean {
  return address.endsWith('@g.us');
}
