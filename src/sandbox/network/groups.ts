import { randomBytes, randomInt } from 'node:crypto';
import { join } from 'node:path';
import { BadRequestException, NotFoundException } from '@nestjs/common';
import { Journal } from '../journal/journal.js';
import type { Group, GroupSettings, JoinRequest, Member } from './group.js';

/** WhatsApp's limit. */
export const MAX_MEMBERS = 1024;

/** The groups, in `groups.ndjson`: each line is a whole group after a change. */
export class GroupRegistry {
  private readonly groups = new Map<string, Group>();
  private readonly byMember = new Map<string, Set<string>>();
  private journal!: Journal;

  private constructor() {}

  /** Restores the groups from their directory. */
  static async open(dir: string): Promise<GroupRegistry> {
    const registry = new GroupRegistry();
    registry.journal = await Journal.open(join(dir, 'groups.ndjson'), (line) => {
      registry.apply(JSON.parse(line) as Group);
    });
    await registry.journal.rewrite(() => [...registry.groups.values()].map((group) => JSON.stringify(group)));
    return registry;
  }

  /** The group with this address. */
  find(id: string): Group | undefined {
    return this.groups.get(id);
  }

  /**
   * The group with this address.
   * @throws NotFoundException
   */
  require(id: string): Group {
    const group = this.groups.get(id);
    if (!group) throw new NotFoundException(`There is no group ${id}: create it with POST /groups first.`);
    return group;
  }

  /** The group that this invite code belongs to. */
  findByInvite(code: string): Group | undefined {
    for (const group of this.groups.values()) if (group.invite === code) return group;
    return undefined;
  }

  /** All groups, or the groups of one member. */
  list(member?: string): Group[] {
    if (member === undefined) return [...this.groups.values()];
    return [...(this.byMember.get(member) ?? [])].map((id) => this.groups.get(id)!);
  }

  /** The role of a phone in a group; undefined when it is not a member. */
  roleOf(group: Group, phone: string): Member['role'] | undefined {
    return group.members.find((member) => member.phone === phone)?.role;
  }

  /** Whether a phone is an admin of a group. */
  isAdmin(group: Group, phone: string): boolean {
    const role = this.roleOf(group, phone);
    return role === 'admin' || role === 'superadmin';
  }

  /** Creates a group with its owner and other members. */
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

  /** Changes the settings of a group. A new description gets a new id. */
  async change(group: Group, changes: Partial<GroupSettings>): Promise<Group> {
    const descriptionId =
      changes.description === undefined ? group.descriptionId : randomBytes(10).toString('hex');
    // Nobody waits in a group that everybody may join.
    const requests = changes.approval === false ? [] : (group.requests ?? []);
    return this.save({ ...group, ...changes, descriptionId, requests });
  }

  /** Replaces the members of a group. */
  async setMembers(group: Group, members: Member[]): Promise<Group> {
    // A member does not wait any longer.
    const isOutside = ({ phone }: JoinRequest): boolean => members.every((member) => member.phone !== phone);
    return this.save({ ...group, members, requests: group.requests?.filter(isOutside) ?? [] });
  }

  /** Replaces the requests to join a group. */
  async setRequests(group: Group, requests: JoinRequest[]): Promise<Group> {
    return this.save({ ...group, requests });
  }

  /** Gives a member a new number. */
  async moveMember(group: Group, from: string, to: string): Promise<Group> {
    const numberOf = (phone: string): string => (phone === from ? to : phone);
    const members = group.members.map((member) => ({ ...member, phone: numberOf(member.phone) }));
    return this.save({ ...group, owner: numberOf(group.owner), members });
  }

  /** Invites single phones; the invites that have expired go. */
  async invitePhones(group: Group, by: string, phones: string[], expiresAt: number): Promise<Group> {
    const now = Math.floor(Date.now() / 1000);
    const standing = Object.entries(group.personalInvites ?? {}).filter(
      ([, invite]) => invite.expiresAt > now,
    );
    const made = phones.map((phone) => [phone, { code: newInvite(), by, expiresAt }] as const);
    return this.save({ ...group, personalInvites: Object.fromEntries([...standing, ...made]) });
  }

  /** A phone joins by its personal invite, which is used up. */
  async acceptInvite(group: Group, phone: string): Promise<Group> {
    const personalInvites = { ...group.personalInvites };
    delete personalInvites[phone];
    return this.save({ ...group, personalInvites, members: [...group.members, { phone, role: 'member' }] });
  }

  /** Replaces the invite code: links with the old code stop working. */
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
