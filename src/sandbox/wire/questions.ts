import { type Action, ACTIONS } from '../journal/message-actions.js';
import type { SandboxConnection } from './browser-connection.js';
import type { GroupAction, GroupResult } from '../network/group-actions.js';
import { isGroupId } from '../network/groups.js';
import type { SandboxNetwork } from '../network/network.js';
import { type Credential, lidOf } from '../network/phones.js';

/** What a page asks; which of the rest is given depends on `q`. */
export interface Question {
  q: string;
  phone?: string;
  secret?: string;
  deed?: MessageActionQuestion;
  group?: GroupAction;
  of?: string;
}

/** What a page does to a message: its own (`fromMe`) or one of the other party. */
interface MessageActionQuestion {
  action: Action;
  chat: string;
  fromMe: boolean;
  /** In a group: the number of whoever wrote the message. */
  author?: string;
  id: string;
  text: string;
}

/** The longest text of a message. */
export const MAX_TEXT_LENGTH = 65_536;

/**
 * Answers a page.
 * @param credential whose page it is; undefined before it is linked
 * @throws with what the page is to be told
 */
export async function answerTo(
  question: Question,
  network: SandboxNetwork,
  connection: SandboxConnection,
  credential: Credential | undefined,
): Promise<unknown> {
  switch (question.q) {
    case 'exists': {
      const phone = network.phones.find(question.phone ?? '');
      if (!phone) return null;
      const { name, isBusiness = false, hidesNumber: hidden = false } = phone;
      return { name, lid: lidOf(phone.phone), isBusiness, hidden };
    }
    case 'group':
      if (!credential || !question.group) throw new Error('Only a linked browser can do that.');
      return doToGroup(network, credential, question.group);
    case 'picture':
      return network.pictureOf(question.of ?? '');
    case 'code':
      return network.pairing.requestCode(connection, question.phone ?? '', question.secret ?? '');
    case 'act':
      if (!credential || !question.deed) throw new Error('Only a linked browser can do that.');
      return act(network, credential, question.deed);
    case 'refresh-qr':
      network.pairing.refresh(connection);
      return true;
    case 'logout':
      if (credential) await network.unlink(credential);
      return true;
    default:
      throw new Error(`The sandbox does not know the question "${question.q}".`);
  }
}

async function doToGroup(
  { faults, groupActions: groupDeeds }: SandboxNetwork,
  { phone }: Credential,
  deed: GroupAction,
): Promise<GroupResult> {
  const { groupRefusal } = faults.of(phone);
  const reads: GroupAction['kind'][] = ['query', 'invite', 'look'];
  if (groupRefusal === null || reads.includes(deed.kind)) return groupDeeds.apply(phone, deed);
  if (deed.kind !== 'add') return { status: groupRefusal };
  // Of those who are to be added WhatsApp refuses each for itself.
  return { status: 200, members: deed.phones.map((other) => ({ phone: other, status: groupRefusal })) };
}

/** @returns when it was done, in milliseconds since 1970 */
async function act(
  { delivery }: SandboxNetwork,
  { phone }: Credential,
  { action, chat, fromMe, author: writer, id, text }: MessageActionQuestion,
): Promise<{ at: number }> {
  if (!ACTIONS.includes(action) || !delivery.mayWrite(phone, chat) || text.length > MAX_TEXT_LENGTH)
    throw new Error(`WhatsApp refuses this ${action}.`);
  if (!fromMe && action !== 'reaction') throw new Error(`Only its sender can ${action} a message.`);
  const other = isGroupId(chat) ? (writer ?? '') : chat;
  const author = fromMe ? phone : other;
  const { at } = await delivery.accept({ from: phone, to: chat, whatsappId: id, type: action, text, author });
  return { at: Date.parse(at) };
}
