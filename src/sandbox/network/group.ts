/** A member of a group. The creator of the group is its superadmin. */
export interface Member {
  phone: string;
  role: 'member' | 'admin' | 'superadmin';
}

/** Somebody asks to join a group. */
export interface JoinRequest {
  phone: string;
  /** Seconds since 1970. */
  t: number;
}

/** A simulated group. */
export interface Group {
  /** The address, with `@g.us`. */
  id: string;
  subject: string;
  description: string;
  /** Changes with the description. */
  descriptionId: string;
  owner: string;
  createdAt: string;
  /** A person who joins by a link has to wait for an admin. */
  approval?: boolean;
  /** Who asked to join, the oldest first. */
  requests?: JoinRequest[];
  /** Only admins may send messages. */
  announce: boolean;
  /** Only admins may change subject, description and picture. */
  restrict: boolean;
  /** Only admins may add members. */
  adminsAdd: boolean;
  /** The code of its invite link. */
  invite: string;
  members: Member[];
  /** The file name of its picture. */
  picture: string | null;
  /** Grows with every change, so that a page knows which of two states is newer. */
  version: number;
}

/** What members can change about a group. */
export type GroupSettings = Pick<
  Group,
  'subject' | 'description' | 'announce' | 'restrict' | 'adminsAdd' | 'approval' | 'picture'
>;

/** A member as the pages of the other members know it. If `hidden` is true, they show only the LID. */
export interface GroupMember extends Member {
  lid: string;
  name: string;
  hidden: boolean;
}

/** A group as its members' pages know it. */
export type GroupState = Omit<Group, 'invite' | 'members' | 'requests'> & { members: GroupMember[] };

/** What a person does to a group, on a phone or in a linked browser. */
export type GroupAction =
  | { kind: 'requests'; group: string }
  /** Answers the requests to join of these phones. */
  | { kind: 'approve' | 'reject'; group: string; phones: string[] }
  | { kind: 'create'; subject: string; phones: string[]; settings?: Partial<GroupSettings> }
  | { kind: 'add' | 'remove' | 'promote' | 'demote'; group: string; phones: string[] }
  | { kind: 'set'; group: string; settings: Partial<GroupSettings> }
  | { kind: 'leave' | 'invite' | 'reset-invite' | 'query'; group: string }
  | { kind: 'join' | 'look'; code: string };

/** The result. `status` is WhatsApp's: 200, 401 not a member, 403 not an admin, 404 no such group, 410 invalid invite. */
export interface GroupResult {
  status: number;
  group?: GroupState;
  invite?: string;
  requests?: JoinRequest[];
  /** The phone that joins has to wait for an admin. */
  isPending?: boolean;
  /** Per phone: 200, 403 joins by invite only, 404 not registered or not a member, 409 already a member, 419 group is full. */
  members?: { phone: string; status: number; inviteCode?: string }[];
}
