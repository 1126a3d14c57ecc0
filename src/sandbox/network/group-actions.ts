import { randomBytes } from 'node:crypto';
import type { Companions } from '../wire/online-browsers.js';
import { type Group, type GroupBook, type GroupSettings, MAX_MEMBERS, type Member } from './groups.js';
import type { GroupEvent, Outbox } from '../journal/outbox.js';
import { lidOf, type PhoneBook } from './phones.js';

/** What somebody does to a group, on a phone or in a linked browser. */
export type GroupAction =
  | { kind: 'create'; subject: string; phones: string[]; settings?: Partial<GroupSettings> }
  | { kind: 'add' | 'remove' | 'promote' | 'demote'; group: string; phones: string[] }
  | { kind: 'set'; group: string; settings: Partial<GroupSettings> }
  | { kind: 'leave' | 'invite' | 'reset-invite' | 'query'; group: string }
  | { kind: 'join' | 'look'; code: string };

/** What it came to. `status` is WhatsApp's: 200, 401 not a member, 403 not an admin, 404 no such group, 410 the invite is void. */
export interface GroupResult {
  status: number;
  group?: GroupState;
  invite?: string;
  /** Per phone: 200, 403 wants an invite, 404 not registered or not in the group, 409 in it already, 419 full. */
  members?: { phone: string; status: number; inviteCode?: string }[];
}

/** A group as its members' pages know it. Whoever hides a number is known by the LID alone. */
export type GroupState = Omit<Group, 'invite' | 'members'> & {
  members: (Member & { lid: string; name: string; hidden: boolean })[];
};

const MAX_SUBJECT_LENGTH = 100;

/** WhatsApp's rules for groups, and telling everybody in a group what became of it. */
export class GroupActions {
  constructor(
    private readonly phones: PhoneBook,
    private readonly groups: GroupBook,
    private readonly outbox: Outbox,
    private readonly companions: Companions,
  ) {}

  /** What a page is told of a group. */
  stateOf({ invite: _invite, members, ...group }: Group): GroupState {
    return {
      ...group,
      members: members.map((member) => {
        const phone = this.phones.find(member.phone);
        const hidden = phone?.hidesNumber ?? false;
        return { ...member, lid: lidOf(member.phone), name: phone?.name ?? '', hidden };
      }),
    };
  }

  /** Does something to a group in the name of a phone's owner. */
  async apply(by: string, deed: GroupAction): Promise<GroupResult> {
    if (deed.kind === 'create') return this.create(by, deed);
    if ('code' in deed) return this.follow(by, deed);
    const group = this.groups.find(deed.group);
    if (!group) return { status: 404 };
    if (!this.groups.roleOf(group, by)) return { status: deed.kind === 'query' ? 403 : 401 };
    switch (deed.kind) {
      case 'query':
        return { status: 200, group: this.stateOf(group) };
      case 'leave':
        return this.leave(by, group);
      case 'set':
        return this.set(by, group, deed.settings);
      case 'invite':
      case 'reset-invite':
        return this.invite(by, group, deed.kind);
      default:
        return this.changeMembers(by, group, deed.kind, deed.phones);
    }
  }

  private async invite(by: string, group: Group, kind: 'invite' | 'reset-invite'): Promise<GroupResult> {
    if (!this.groups.isAdmin(group, by)) return { status: 403 };
    const { invite } = kind === 'invite' ? group : await this.groups.resetInvite(group);
    return { status: 200, invite };
  }

  private async create(
    by: string,
    { subject, phones, settings }: Extract<GroupAction, { kind: 'create' }>,
  ): Promise<GroupResult> {
    if (subject === '' || subject.length > MAX_SUBJECT_LENGTH) return { status: 406 };
    const checked = phones.map((phone) => ({ phone, status: this.statusFor(phone) }));
    const joined = checked.filter(({ status }) => status === 200).map(({ phone }) => phone);
    const group = await this.groups.create(by, [...new Set(joined)], { ...settings, subject });
    this.tell(group, [], { by, change: 'create', whom: joined, body: subject });
    return { status: 200, group: this.stateOf(group), members: this.withInvites(group, checked) };
  }

  private async add(by: string, group: Group, phones: string[]): Promise<GroupResult> {
    if (group.adminsAdd && !this.groups.isAdmin(group, by)) return { status: 403 };
    const checked = phones.map((phone) => {
      const isIn = this.groups.roleOf(group, phone) !== undefined;
      return { phone, status: isIn ? 409 : this.statusFor(phone) };
    });
    const free = MAX_MEMBERS - group.members.length;
    const joining = checked.filter(({ status }) => status === 200);
    for (const late of joining.splice(free)) late.status = 419;
    if (joining.length > 0) {
      const whom = joining.map(({ phone }) => phone);
      const members = whom.map((phone) => ({ phone, role: 'member' as const }));
      const next = await this.groups.setMembers(group, [...group.members, ...members]);
      this.tell(next, [], { by, change: 'add', whom, body: '' });
    }
    return { status: 200, members: this.withInvites(group, checked) };
  }

  private async changeMembers(
    by: string,
    group: Group,
    kind: 'add' | 'remove' | 'promote' | 'demote',
    phones: string[],
  ): Promise<GroupResult> {
    if (kind === 'add') return this.add(by, group, phones);
    if (!this.groups.isAdmin(group, by)) return { status: 403 };
    const mayChange = (member: Member): boolean =>
      phones.includes(member.phone) && member.role !== 'superadmin';
    const whom = group.members.filter(mayChange).map(({ phone }) => phone);
    const role = kind === 'promote' ? ('admin' as const) : ('member' as const);
    const members =
      kind === 'remove'
        ? group.members.filter((member) => !mayChange(member))
        : group.members.map((member) => (mayChange(member) ? { ...member, role } : member));
    if (whom.length > 0) {
      const next = await this.groups.setMembers(group, members);
      this.tell(next, kind === 'remove' ? whom : [], { by, change: kind, whom, body: '' });
    }
    return {
      status: 200,
      members: phones.map((phone) => ({ phone, status: whom.includes(phone) ? 200 : 404 })),
    };
  }

  private async set(by: string, group: Group, settings: Partial<GroupSettings>): Promise<GroupResult> {
    const isAdmin = this.groups.isAdmin(group, by);
    const { subject } = settings;
    const ofInfo = ['subject', 'description', 'picture'];
    const mayAll = Object.keys(settings).every((name) => ofInfo.includes(name) && !group.restrict);
    if (!isAdmin && !mayAll) return { status: 403 };
    if (subject !== undefined && (subject === '' || subject.length > MAX_SUBJECT_LENGTH))
      return { status: 406 };
    const next = await this.groups.change(group, settings);
    for (const [name, value] of Object.entries(settings)) {
      const change = name === 'adminsAdd' ? 'member_add_mode' : name;
      this.tell(next, [], { by, change, whom: [], body: String(value) });
    }
    return { status: 200, group: this.stateOf(next) };
  }

  private async leave(by: string, group: Group): Promise<GroupResult> {
    const members = group.members.filter(({ phone }) => phone !== by);
    const next = await this.groups.setMembers(group, withAdmin(members));
    this.tell(next, [by], { by, change: 'leave', whom: [by], body: '' });
    return { status: 200 };
  }

  private async follow(
    by: string,
    { kind, code }: Extract<GroupAction, { code: string }>,
  ): Promise<GroupResult> {
    const group = this.groups.findByInvite(code);
    if (!group) return { status: 410 };
    if (kind === 'look' || this.groups.roleOf(group, by)) return { status: 200, group: this.stateOf(group) };
    if (group.members.length >= MAX_MEMBERS) return { status: 419 };
    const next = await this.groups.setMembers(group, [...group.members, { phone: by, role: 'member' }]);
    this.tell(next, [], { by, change: 'invite', whom: [by], body: '' });
    return { status: 200, group: this.stateOf(next) };
  }

  private statusFor(number: string): number {
    const phone = this.phones.find(number);
    if (!phone) return 404;
    return phone.joinsByInviteOnly ? 403 : 200;
  }

  /** Whoever only joins by invite can be sent one. */
  private withInvites(
    group: Group,
    checked: { phone: string; status: number }[],
  ): NonNullable<GroupResult['members']> {
    return checked.map((entry) => (entry.status === 403 ? { ...entry, inviteCode: group.invite } : entry));
  }

  /** Tells the browsers of everybody in the group, and of those who have just left it. */
  private tell(
    group: Group,
    gone: string[],
    { by, change, whom, body }: Pick<GroupEvent, 'by' | 'change' | 'whom' | 'body'>,
  ): void {
    const event: GroupEvent = {
      k: 'group',
      id: randomBytes(10).toString('hex').toUpperCase(),
      chat: group.id,
      group: this.stateOf(group),
      by,
      change,
      whom,
      body,
      t: Math.floor(Date.now() / 1000),
    };
    const concerned = new Set([...group.members.map(({ phone }) => phone), ...gone]);
    const dispatches = [...concerned].flatMap((phone) =>
      [...this.phones.companionsOf(phone)].map(({ id: credential }) => ({ credential, event })),
    );
    // It follows from no line of the ledger; a page that misses it for a crash learns the state when it connects.
    const queued = this.outbox.add(this.outbox.lastSeq, dispatches);
    dispatches.forEach(({ credential }, i) => {
      const entry = queued[i];
      if (entry) this.companions.dispatch(credential, entry, 0);
    });
  }
}

/** A group is never left without an admin: the one who has been in it longest becomes it. */
function withAdmin(members: Member[]): Member[] {
  const [first, ...others] = members;
  if (!first || members.some(({ role }) => role !== 'member')) return members;
  return [{ ...first, role: 'admin' }, ...others];
}
