import { lidOf } from '../addresses.js';
import type { Group, Member } from './groups.js';
import type { PhoneRegistry } from './phones.js';

/** A group as its members' pages know it. A page knows a member who hides the number only by the LID. */
export type GroupState = Omit<Group, 'invite' | 'members'> & {
  members: (Member & { lid: string; name: string; hidden: boolean })[];
};

/** The state of a group that is sent to pages. */
export function groupStateOf(
  { invite: _invite, members, ...group }: Group,
  phones: PhoneRegistry,
): GroupState {
  return {
    ...group,
    members: members.map((member) => {
      const phone = phones.find(member.phone);
      const hidden = phone?.hidesNumber ?? false;
      return { ...member, lid: lidOf(member.phone), name: phone?.name ?? '', hidden };
    }),
  };
}
