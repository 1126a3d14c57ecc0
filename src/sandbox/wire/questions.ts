import { Injectable } from '@nestjs/common';
import { isGroupId, lidOf } from '../addresses.js';
import type { ActionType } from '../journal/message-actions.js';
import { ACTION_TYPES } from '../journal/message-states.js';
import { Delivery, MAX_TEXT_LENGTH } from '../network/delivery.js';
import { FaultSettings } from '../network/fault-settings.js';
import type { GroupAction, GroupResult } from '../network/group.js';
import { GroupActions } from '../network/group-actions.js';
import { GroupRegistry } from '../network/groups.js';
import { type Credential, PhoneRegistry } from '../network/phones.js';
import { AccountQuestions } from './account-questions.js';
import type { BrowserConnection } from './browser-connection.js';
import { BrowserCounters } from './browser-counters.js';
import type { ActionQuestion, Answer, CheckRefused, Question, RegisteredNumber } from './frames.js';
import { Linking } from './linking.js';
import { ProfileQuestions } from './profile-questions.js';

/** What only the sender of a message does to it. */
const OWN_ONLY: ActionType[] = ['edit', 'revoke', 'reschedule'];
const GROUP_READS: GroupAction['kind'][] = ['query', 'invite', 'look', 'requests'];

/** Answers the questions of pages: who exists, what a picture is, and what they want to do to groups and messages. */
@Injectable()
export class Questions {
  constructor(
    private readonly phones: PhoneRegistry,
    private readonly groups: GroupRegistry,
    private readonly groupActions: GroupActions,
    private readonly delivery: Delivery,
    private readonly faults: FaultSettings,
    private readonly linking: Linking,
    private readonly profiles: ProfileQuestions,
    private readonly accounts: AccountQuestions,
    private readonly counters: BrowserCounters,
  ) {}

  /**
   * The answer to a question.
   * @throws with the message for the page
   */
  async answer(connection: BrowserConnection, question: Question): Promise<Answer> {
    const { credential } = connection;
    if (credential) {
      for (const others of [this.profiles, this.accounts]) {
        const answer = await others.answer(credential.phone, question);
        if (answer !== undefined) return answer;
      }
    }
    switch (question.q) {
      case 'exists':
        this.counters.numberChecks += 1;
        return this.lookUp(question.phone ?? '', credential?.phone);
      case 'group':
        if (!credential || !question.group) throw new Error('Only a linked browser can do that.');
        return this.actOnGroup(credential, question.group);
      case 'picture':
        return this.pictureOf(question.of ?? '');
      case 'code':
        return this.linking.requestCode(connection, question.phone ?? '', question.secret ?? '');
      case 'act':
        if (!credential || !question.deed) throw new Error('Only a linked browser can do that.');
        return this.actOnMessage(credential, question.deed);
      case 'logout':
        if (credential) await this.linking.unlink(credential);
        return true;
      default:
        // A page can send what its types do not allow.
        throw new Error(`The sandbox does not know the question "${(question as { q: string }).q}".`);
    }
  }

  private lookUp(number: string, by: string | undefined): RegisteredNumber | CheckRefused | null {
    const { checkRefusal } = this.faults.of(by);
    if (checkRefusal !== null) return { status: checkRefusal };
    const phone = this.phones.findByAnyForm(number);
    if (!phone) return null;
    const { name, isBusiness = false, hidesNumber: hidden = false } = phone;
    return { phone: phone.phone, name, lid: lidOf(phone.phone), isBusiness, hidden };
  }

  /** The address of the picture of a phone or a group, on web.whatsapp.com; null when it has none. */
  private pictureOf(address: string): { eurl: string } | null {
    const picture = (this.groups.find(address) ?? this.phones.find(address))?.picture;
    return picture ? { eurl: `https://web.whatsapp.com/pictures/${picture}` } : null;
  }

  private async actOnGroup({ phone }: Credential, action: GroupAction): Promise<GroupResult> {
    const { groupRefusal } = this.faults.of(phone);
    if (groupRefusal === null || GROUP_READS.includes(action.kind))
      return this.groupActions.apply(phone, action);
    if (action.kind !== 'add') return { status: groupRefusal };
    // WhatsApp refuses each new member separately.
    return { status: 200, members: action.phones.map((other) => ({ phone: other, status: groupRefusal })) };
  }

  /** @returns the time of the action, in milliseconds since 1970 */
  private async actOnMessage(
    { phone }: Credential,
    { action, chat, fromMe, author, id, text }: ActionQuestion,
  ): Promise<{ at: number }> {
    const isAllowed = ACTION_TYPES.includes(action) && this.delivery.maySend(phone, chat);
    if (!isAllowed || text.length > MAX_TEXT_LENGTH) throw new Error(`WhatsApp refuses this ${action}.`);
    if (!fromMe && OWN_ONLY.includes(action)) throw new Error(`Only its sender can ${action} a message.`);
    await this.delivery.checkFromPage(phone, id, action, text);
    const other = isGroupId(chat) ? (author ?? '') : chat;
    const { at } = await this.delivery.accept({
      from: phone,
      to: chat,
      whatsappId: id,
      type: action,
      text,
      author: fromMe ? phone : other,
    });
    return { at: Date.parse(at) };
  }
}
