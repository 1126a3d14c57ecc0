import { Injectable } from '@nestjs/common';
import { isGroupId } from '../addresses.js';
import { CallLinks } from '../network/call-links.js';
import { ChannelActions } from '../network/channel-actions.js';
import { GroupActions } from '../network/group-actions.js';
import { PhoneRegistry } from '../network/phones.js';
import { PictureStore } from '../network/pictures.js';
import { Presences } from '../network/presences.js';
import { Stories } from '../network/stories.js';
import type { AccountQuestionTypes, Answer, Question } from './frames.js';
import { OnlineBrowsers } from './online-browsers.js';

const MAX_NAME_LENGTH = 100;

/** Answers what a page changes about its account: pictures, channels, stories, the address book and links to calls; and who has how many devices. */
@Injectable()
export class AccountQuestions {
  constructor(
    private readonly phones: PhoneRegistry,
    private readonly groupActions: GroupActions,
    private readonly channelActions: ChannelActions,
    private readonly stories: Stories,
    private readonly pictures: PictureStore,
    private readonly browsers: OnlineBrowsers,
    private readonly callLinks: CallLinks,
    private readonly presences: Presences,
  ) {}

  /**
   * The answer to a question of a linked browser; undefined when the question is about something else.
   * @param me the phone of the browser
   * @throws with the message for the page
   */
  async answer(me: string, question: Question): Promise<Answer | undefined> {
    switch (question.q) {
      case 'set-picture':
        return { status: await this.setPicture(me, question) };
      case 'save-contact':
        return this.saveContact(me, question);
      case 'devices':
        return this.devicesOf(question.phone);
      case 'channel':
        return this.channelActions.apply(me, question.channel);
      case 'story':
        await this.stories.post(me, question.story);
        return true;
      case 'picture':
        // The pictures of channels only.
        return this.channelActions.pictureOf(question.of);
      case 'presence':
        return this.presences.watch(me, question.of);
      case 'call-link':
        return this.callLinks.create(me, question);
      default:
        return undefined;
    }
  }

  /** @returns WhatsApp's status: 200, or 401 for the picture of somebody else */
  private async setPicture(
    me: string,
    { of, picture: base64 }: AccountQuestionTypes['set-picture']['asked'],
  ): Promise<number> {
    if (!isGroupId(of) && of !== me) return 401;
    const picture = base64 === null ? null : await this.pictures.save(base64);
    if (isGroupId(of)) {
      const { status } = await this.groupActions.apply(me, { kind: 'set', group: of, settings: { picture } });
      return status;
    }
    await this.phones.change(me, { picture });
    return 200;
  }

  private async saveContact(
    me: string,
    { phone, name }: AccountQuestionTypes['save-contact']['asked'],
  ): Promise<true> {
    if (name !== null && (name === '' || name.length > MAX_NAME_LENGTH || !/^\d{5,15}$/.test(phone)))
      throw new Error('WhatsApp refuses this contact.');
    await this.phones.saveContact({ owner: me, phone, name });
    this.browsers.sendContacts(me, this.phones.contactsOf(me));
    return true;
  }

  /** The phone and its linked browsers; 0 when the number is not registered. */
  private devicesOf(phone: string): number {
    return this.phones.find(phone) ? 1 + [...this.phones.credentialsOf(phone)].length : 0;
  }
}
