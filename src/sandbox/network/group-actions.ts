import { randomBytes } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { Outbox } from '../journal/outbox.js';
import type { BrowserEvent, GroupEvent } from './events.js';
import type { Group, GroupAction, GroupResult, GroupSettings, Member } from './group.js';
import { groupStateOf } from './group-state.js';
import { FaultSettings } from './fault-settings.js';
import { GroupRegistry, MAX_MEMBERS } from './groups.js';
import { PhoneRegistry } from './phones.js';

const MAX_SUBJECT_LENGTH = 100;
/** WhatsApp's words for changes of settings that the sandbox calls by another name. */
const CHANGES: Record<string, string> = {
  adminsAdd: 'member_add_mode',
  approval: 'membership_approval_mode',
};

/** Applies WhatsApp's rules to groups, and tells the members' browsers about each change. */
@Injectable()
export class GroupActions {
  constructor(
    private readonly phones: PhoneRegistry,
    private readonly groups: GroupRegistry,
    private readonly outbox: Outbox<BrowserEvent>,
    private readonly faults: FaultSettings,
  ) {}

  /** Does something to a group in the name of the owner of the phone `by`. */
  async apply(by: string, action: GroupAction): Promise<GroupResult> {
    if (action.kind === 'create') return this.create(by, action);
    if (action.kind === 'accept-invite') return this.acceptInvite(by, action);
    if ('code' in action) return this.useInvite(by, action);
    const group = this.groups.find(action.group);
    if (!group) return { status: 404 };
    if (!this.groups.roleOf(group, by)) return { status: action.kind === 'query' ? 403 : 401 };
    switch (action.kind) {
      case 'query':
        return { status: 200, group: groupStateOf(group, this.phones) };
      case 'leave':
        return this.leave(by, group);
      case 'set':
        return this.set(by, group, action.settings);
      case 'requests':
        if (!this.groups.isAdmin(group, by)) return { status: 403 };
        return { status: 200, requests: group.requests ?? [] };
      case 'approve':
      case 'reject':
        return this.decide(by, group, action.kind, action.phones);
      case 'invite':
      case 'reset-invite':
        return this.invite(by, group, action.kind);
      default:
        return this.changeMembers(by, group, action.kind, action.phones);
    }
  }

  /** Replaces the number of a member in all groups. */
  async moveMember(from: string, to: string): Promise<void> {
    for (const group of this.groups.list(from)) {
      const next = await this.groups.moveMember(group, from, to);
      this.notify(next, [], { by: from, change: 'modify', whom: [to], body: '' });
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
    this.notify(group, [], { by, change: 'create', whom: joined, body: subject });
    return {
      status: 200,
      group: groupStateOf(group, this.phones),
      members: await this.withInvites(by, group, checked),
    };
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
    let next = group;
    if (joining.length > 0) {
      const whom = joining.map(({ phone }) => phone);
      const members = whom.map((phone) => ({ phone, role: 'member' as const }));
      next = await this.groups.setMembers(group, [...group.members, ...members]);
      this.notify(next, [], { by, change: 'add', whom, body: '' });
    }
    return { status: 200, members: await this.withInvites(by, next, checked) };
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
      this.notify(next, kind === 'remove' ? whom : [], { by, change: kind, whom, body: '' });
    }
    return {
      status: 200,
      members: phones.map((phone) => ({ phone, status: whom.includes(phone) ? 200 : 404 })),
    };
  }

  private async set(by: string, group: Group, settings: Partial<GroupSettings>): Promise<GroupResult> {
    const isAdmin = this.groups.isAdmin(group, by);
    const { subject } = settings;
    const infoFields = ['subject', 'description', 'picture'];
    const isOpenToMembers = Object.keys(settings).every(
      (name) => infoFields.includes(name) && !group.restrict,
    );
    if (!isAdmin && !isOpenToMembers) return { status: 403 };
    if (subject !== undefined && (subject === '' || subject.length > MAX_SUBJECT_LENGTH))
      return { status: 406 };
    const next = await this.groups.change(group, settings);
    for (const [name, value] of Object.entries(settings)) {
      const change = CHANGES[name] ?? name;
      this.notify(next, [], { by, change, whom: [], body: String(value) });
    }
    return { status: 200, group: groupStateOf(next, this.phones) };
  }

  private async leave(by: string, group: Group): Promise<GroupResult> {
    const members = group.members.filter(({ phone }) => phone !== by);
    const next = await this.groups.setMembers(group, withAdmin(members));
    this.notify(next, [by], { by, change: 'leave', whom: [by], body: '' });
    return { status: 200 };
  }

  /** A phone accepts the invite that was made for it: 403 when it was made for another phone, 410 when it has expired. */
  private async acceptInvite(
    by: string,
    { group: id, code }: Extract<GroupAction, { kind: 'accept-invite' }>,
  ): Promise<GroupResult> {
    const group = this.groups.find(id);
    if (!group) return { status: 404 };
    const invite = group.personalInvites?.[by];
    if (invite?.code !== code) return { status: 403 };
    if (invite.expiresAt * 1000 <= Date.now()) return { status: 410 };
    if (group.members.length >= MAX_MEMBERS) return { status: 419 };
    const next = await this.groups.acceptInvite(group, by);
    this.notify(next, [], { by, change: 'invite', whom: [by], body: '' });
    return { status: 200, group: groupStateOf(next, this.phones) };
  }

  private async useInvite(
    by: string,
    { kind, code }: Extract<GroupAction, { kind: 'join' | 'look' }>,
  ): Promise<GroupResult> {
    const group = this.groups.findByInvite(code);
    if (!group) return { status: 410 };
    if (kind === 'look' || this.groups.roleOf(group, by))
      return { status: 200, group: groupStateOf(group, this.phones) };
    if (group.approval) return this.ask(by, group);
    if (group.members.length >= MAX_MEMBERS) return { status: 419 };
    const next = await this.groups.setMembers(group, [...group.members, { phone: by, role: 'member' }]);
    this.notify(next, [], { by, change: 'invite', whom: [by], body: '' });
    return { status: 200, group: groupStateOf(next, this.phones) };
  }

  /** Somebody asks to join: the admins see it. A second request of the same phone changes nothing. */
  async ask(by: string, group: Group): Promise<GroupResult> {
    const requests = group.requests ?? [];
    if (!group.approval) return { status: 406 };
    if (this.groups.roleOf(group, by)) return { status: 409 };
    if (requests.length >= MAX_MEMBERS) return { status: 419 };
    let next = group;
    if (!requests.some(({ phone }) => phone === by)) {
      next = await this.groups.setRequests(group, [...requests, { phone: by, t: nowInSeconds() }]);
      this.tell(next, this.adminsOf(next), {
        by,
        change: 'membership_approval_request',
        whom: [by],
        body: '',
      });
    }
    return { status: 200, isPending: true, group: groupStateOf(next, this.phones) };
  }

  /** Somebody takes the request to join back. */
  async withdraw(by: string, group: Group): Promise<GroupResult> {
    const requests = group.requests ?? [];
    if (!requests.some(({ phone }) => phone === by)) return { status: 404 };
    await this.dropRequests(by, group, [by]);
    return { status: 200 };
  }

  /** An admin answers requests to join. */
  private async decide(
    by: string,
    group: Group,
    kind: 'approve' | 'reject',
    phones: string[],
  ): Promise<GroupResult> {
    if (!this.groups.isAdmin(group, by)) return { status: 403 };
    const requests = group.requests ?? [];
    const isWaiting = (phone: string): boolean => requests.some((request) => request.phone === phone);
    const known = phones.filter(isWaiting);
    const free = kind === 'approve' ? MAX_MEMBERS - group.members.length : known.length;
    const done = known.slice(0, free);
    if (done.length > 0 && kind === 'approve') {
      const joining = done.map((phone) => ({ phone, role: 'member' as const }));
      const next = await this.groups.setMembers(group, [...group.members, ...joining]);
      this.notify(next, [], { by, change: 'add', whom: done, body: '' });
    } else if (done.length > 0) await this.dropRequests(by, group, done);
    const statusOf = (phone: string): number => {
      if (done.includes(phone)) return 200;
      return isWaiting(phone) ? 419 : 404;
    };
    return { status: 200, members: phones.map((phone) => ({ phone, status: statusOf(phone) })) };
  }

  private async dropRequests(by: string, group: Group, whom: string[]): Promise<void> {
    const left = (group.requests ?? []).filter(({ phone }) => !whom.includes(phone));
    const next = await this.groups.setRequests(group, left);
    this.tell(next, this.adminsOf(next), { by, change: 'revoked_membership_requests', whom, body: '' });
  }

  private adminsOf(group: Group): string[] {
    return group.members.map(({ phone }) => phone).filter((phone) => this.groups.isAdmin(group, phone));
  }

  private statusFor(number: string): number {
    const phone = this.phones.find(number);
    if (!phone) return 404;
    return phone.joinsByInviteOnly ? 403 : 200;
  }

  /** Makes an invite for each phone that joins by invite only. */
  private async withInvites(
    by: string,
    group: Group,
    checked: { phone: string; status: number }[],
  ): Promise<NonNullable<GroupResult['members']>> {
    const shy = checked.filter(({ status }) => status === 403).map(({ phone }) => phone);
    if (shy.length === 0) return checked;
    const { inviteLifetimeMs } = this.faults.of(by);
    const expiresAt = Math.floor((Date.now() + inviteLifetimeMs) / 1000);
    const { personalInvites = {} } = await this.groups.invitePhones(group, by, shy, expiresAt);
    return checked.map((entry) => {
      const invite = entry.status === 403 ? personalInvites[entry.phone] : undefined;
      return invite ? { ...entry, inviteCode: invite.code, inviteExpiresAt: invite.expiresAt } : entry;
    });
  }

  /** Tells the browsers of all members, and of the phones in `gone`, which have just left. */
  private notify(
    group: Group,
    gone: string[],
    change: Pick<GroupEvent, 'by' | 'change' | 'whom' | 'body'>,
  ): void {
    this.tell(group, [...group.members.map(({ phone }) => phone), ...gone], change);
  }

  /** Tells the browsers of these phones. */
  private tell(
    group: Group,
    phones: string[],
    { by, change, whom, body }: Pick<GroupEvent, 'by' | 'change' | 'whom' | 'body'>,
  ): void {
    const event: GroupEvent = {
      k: 'group',
      id: randomBytes(10).toString('hex').toUpperCase(),
      chat: group.id,
      group: groupStateOf(group, this.phones),
      by,
      change,
      whom,
      body,
      t: nowInSeconds(),
    };
    const events = [...new Set(phones)].flatMap((phone) =>
      [...this.phones.credentialsOf(phone)].map(({ id: credential }) => ({ credential, event, delayMs: 0 })),
    );
    // No line of the ledger causes it. A page that misses it in a crash gets the state of the group when it connects.
    this.outbox.add(this.outbox.lastSeq, events);
  }
}

function nowInSeconds(): number {
  return Math.floor(Date.now() / 1000);
}

/** A group always has an admin: when the last one leaves, the oldest member becomes admin. */
function withAdmin(members: Member[]): Member[] {
  const [first, ...others] = members;
  if (!first || members.some(({ role }) => role !== 'member')) return members;
  return [{ ...first, role: 'admin' }, ...others];
}
