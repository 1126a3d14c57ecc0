import type { PagePerson, PageWindow } from './page-functions.js';
import type { PageNewGroup, PageWid, PageWidLike } from './page-modules.js';
import type { PageCursor } from './page-reads.js';

/*
 * Groups inside the WhatsApp Web page. See page-functions.ts for the rules of such functions.
 */

export interface PageGroupItem {
  id: string;
  subject: string;
  participantCount: number;
  isAdmin: boolean;
}

export interface PageGroup extends PageGroupItem {
  isMember: boolean;
  description: string | null;
  owner: PagePerson | null;
  /** Seconds since 1970. */
  creation: number | null;
  announcementsOnly: boolean;
  infoAdminsOnly: boolean;
  addAdminsOnly: boolean;
  /** Null if this account is not an admin. */
  inviteCode: string | null;
  participants: (PagePerson & { isAdmin: boolean; isSuperAdmin: boolean })[];
}

/** The result of adding one person to a group: WhatsApp's own code. */
export interface AddedMember {
  id: string;
  code: number;
}

/** WhatsApp refused, and nothing was done. `status` is WhatsApp's own status, 0 if it gives none. */
export interface PageRefusal {
  outcome: 'refused';
  status: number;
}

declare const window: PageWindow;

/** The account's groups that the page knows without asking WhatsApp, in the order of their ids. */
export function listGroups(limit: number, after: PageCursor | null): PageGroupItem[] {
  const { Chat } = window.require('WAWebCollections');
  const { each, isMember } = window.flotilla!;
  const groups = Chat.getModelsArray()
    .map((chat) => ({ chat, id: chat.id._serialized }))
    .filter(({ chat, id }) => id.endsWith('@g.us') && chat.groupMetadata && (!after || id > after.id))
    .filter(({ chat }) => isMember(chat))
    .sort((a, b) => (a.id < b.id ? -1 : 1));
  const read = ({ chat, id }: (typeof groups)[number]): PageGroupItem => ({
    id,
    subject: chat.formattedTitle ?? chat.name ?? '',
    participantCount: Number(chat.groupMetadata!.participants?.length ?? chat.groupMetadata!.size ?? 0),
    isAdmin: chat.groupMetadata!.participants?.iAmAdmin?.() === true,
  });
  return each('groups', groups, read, limit + 1);
}

/** Asks WhatsApp for a group. Null if the account has no chat of the group. */
export async function readGroup(groupId: string, withInvite: boolean): Promise<PageGroup | null> {
  const chat = window.require('WAWebCollections').Chat.get(groupId);
  if (!chat?.groupMetadata) return null;
  const { personOf, refusalOf } = window.flotilla!;
  // WhatsApp refuses to answer an account that has left the group. Any other error says nothing about the group.
  const nullIfOutside = (error: Error) => {
    if (![401, 403, 404].includes(refusalOf(error) ?? 0)) throw error;
    return null;
  };
  await window
    .require('WAWebGroupQueryJob')
    .queryAndUpdateGroupMetadataById({ id: groupId })
    .catch(nullIfOutside);
  const { groupMetadata } = chat;
  const participants = groupMetadata.participants!;
  const person = (wid: PageWidLike) => personOf(wid?._serialized ?? String(wid));
  const isMember = window.flotilla!.isMember(chat);
  const isAdmin = isMember && participants.iAmAdmin?.() === true;
  const invite =
    isAdmin && withInvite
      ? await window
          .require('WAWebMexFetchGroupInviteCodeJob')
          .fetchMexGroupInviteCode(groupId)
          .catch(nullIfOutside)
      : null;
  return {
    id: groupId,
    subject: chat.formattedTitle ?? chat.name ?? groupMetadata.subject ?? '',
    participantCount: participants.length,
    isAdmin,
    isMember,
    description: groupMetadata.desc ?? null,
    owner: groupMetadata.owner ? person(groupMetadata.owner) : null,
    creation: groupMetadata.creation ?? null,
    announcementsOnly: groupMetadata.announce === true,
    infoAdminsOnly: groupMetadata.restrict === true,
    addAdminsOnly: groupMetadata.memberAddMode === 'admin_add',
    inviteCode: typeof invite === 'string' ? invite : (invite?.code ?? null),
    participants: participants.getModelsArray().map(({ id, isAdmin: admin, isSuperAdmin }) => ({
      ...person(id),
      isAdmin: Boolean(admin || isSuperAdmin),
      isSuperAdmin: Boolean(isSuperAdmin),
    })),
  };
}

/** Whether the page knows a group. It learns of a new group a moment after the account made or joined it. */
export function hasGroup(groupId: string): boolean {
  return Boolean(window.require('WAWebCollections').Chat.get(groupId)?.groupMetadata);
}

/**
 * Makes a group. The library's own call does the same, but treats a lost connection as a refusal, although the group may
 * exist then. In that case this function throws.
 * @param participants chat ids of numbers
 */
export async function createGroup(
  subject: string,
  participants: string[],
): Promise<{ outcome: 'made'; groupId: string; members: AddedMember[] } | PageRefusal> {
  const { createWid } = window.require('WAWebWidFactory');
  const { queryWidExists } = window.require('WAWebQueryExistsJob');
  const members: AddedMember[] = [];
  const wids: { phoneNumber: PageWid }[] = [];
  for (const id of participants) {
    const wid = createWid(id);
    if ((await queryWidExists(wid))?.wid) wids.push({ phoneNumber: wid });
    else members.push({ id, code: 404 });
  }
  let made: PageNewGroup;
  try {
    made = await window.require('WAWebGroupCreateJob').createGroup(
      {
        addressingModeOverride: 'lid',
        memberAddMode: false,
        membershipApprovalMode: false,
        announce: false,
        restrict: false,
        ephemeralDuration: 0,
        parentGroupId: undefined,
        title: subject,
      },
      wids,
    );
  } catch (error) {
    const status = window.flotilla!.refusalOf(error);
    if (status === null) throw error;
    return { outcome: 'refused', status };
  }
  for (const { wid, error, type } of made.participants) {
    if (type === 'superadmin') continue;
    const number = wid.server === 'lid' ? window.require('WAWebApiContact').getPhoneNumber(wid) : wid;
    members.push({ id: (number ?? wid)._serialized, code: Number(error || 200) });
  }
  return { outcome: 'made', groupId: made.wid._serialized, members };
}

/** Joins a group with the code of an invite. If the account is in the group already, nothing changes. */
export async function joinGroup(code: string): Promise<{ outcome: 'joined'; groupId: string } | PageRefusal> {
  try {
    const { gid } = await window.require('WAWebGroupInviteJob').joinGroupViaInvite(code);
    return { outcome: 'joined', groupId: gid._serialized };
  } catch (error) {
    const status = window.flotilla!.refusalOf(error);
    if (status === null) throw error;
    return { outcome: 'refused', status };
  }
}
