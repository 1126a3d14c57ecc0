/** What people can do to a message after it was sent. */
export type ActionType = 'edit' | 'reaction' | 'revoke' | 'vote' | 'pin' | 'reschedule' | 'rsvp';

/** A line of the ledger as an action: `from` acts on the message that `author` wrote; without `author`, on an own message. */
export interface MessageAction {
  from: string;
  to: string;
  author?: string;
  whatsappId: string;
  type: string;
  text: string;
}
