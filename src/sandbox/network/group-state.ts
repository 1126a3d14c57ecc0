import { lidOf } from '../addresses.js';
import type { Group, GroupState } from './group.js';
import type { PhoneRegistry } from './phones.js';

/** The state of a group that is sent to pages. */
export function groupStateOf(
  { invite: _invite, personalInvites: _personalInvites, requests: _requests, members, ...group }: Group,
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
