import type { Groups } from './groups.js';
import { createWid, lidOfPhone, phoneOfWid, type WidLike } from './ids.js';

/** What whatsapp-web.js gives to answer a request to join a group. */
interface DecisionCall {
  iqTo: WidLike;
  approveArgs?: { participantArgs: { participantJid: WidLike }[] };
  rejectArgs?: DecisionCall['approveArgs'];
}

/** The modules of WhatsApp Web about requests to join a group. */
export function joinRequestModules(groups: Groups) {
  return {
    WAWebApiMembershipApprovalRequestStore: {
      getMembershipApprovalRequests: async (id: WidLike) =>
        (await groups.requestsOf(id)).map(({ phone, t }) => ({
          id: lidOfPhone(phone),
          addedBy: lidOfPhone(phone),
          requestMethod: 'InviteLink',
          t,
        })),
    },
    WASmaxGroupsMembershipRequestsActionRPC: {
      sendMembershipRequestsActionRPC: (call: DecisionCall) => decide(groups, call),
    },
    WAWebJidToWid: { userJidToUserWid: createWid, newsletterJidToWid: createWid, groupJidToWid: createWid },
  };
}

/** The answer looks like that of the remote call of WhatsApp Web. */
async function decide(groups: Groups, { iqTo, approveArgs, rejectArgs }: DecisionCall): Promise<object> {
  const kind = approveArgs ? 'approve' : 'reject';
  const args = approveArgs ?? rejectArgs;
  const jids = args!.participantArgs.map(({ participantJid }) => participantJid);
  let members;
  try {
    members = await groups.decide(
      kind,
      iqTo,
      jids.map((jid) => phoneOfWid(createWid(jid))),
    );
  } catch (error) {
    const { status } = error as { status?: number };
    if (status === undefined) throw error;
    return { name: 'MembershipRequestsActionResponseClientError', value: { code: String(status) } };
  }
  const mixins = `membershipRequestsAction${approveArgs ? 'Accept' : 'Reject'}ParticipantMixins`;
  const participant = members.map(({ status }, i) => ({
    jid: jids[i],
    ...(status === 200 ? {} : { [mixins]: { value: { error: String(status) } } }),
  }));
  const answer = `membershipRequestsAction${approveArgs ? 'Approve' : 'Reject'}`;
  return { name: 'MembershipRequestsActionResponseSuccess', value: { [answer]: { participant } } };
}
