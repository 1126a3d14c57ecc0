import { Injectable } from '@nestjs/common';
import { DEFAULT_ABOUT, PhoneRegistry } from '../network/phones.js';
import type { Answer, Question } from './frames.js';
import { OnlineBrowsers } from './online-browsers.js';
import { Ringing } from './ringing.js';

/** WhatsApp's limits. */
const MAX_NAME_LENGTH = 100;
const MAX_ABOUT_LENGTH = 139;

/** Answers what a page asks and changes about people: names, texts about them, blocking, and calls from them. */
@Injectable()
export class ProfileQuestions {
  constructor(
    private readonly phones: PhoneRegistry,
    private readonly browsers: OnlineBrowsers,
    private readonly ringing: Ringing,
  ) {}

  /**
   * The answer to a question of a linked browser; undefined when the question is about something else.
   * @param me the phone of the browser
   * @throws with the message for the page
   */
  async answer(me: string, question: Question): Promise<Answer | undefined> {
    switch (question.q) {
      case 'about':
        return this.aboutOf(me, question.phone);
      case 'business':
        return this.businessOf(question.phone);
      case 'set-about':
        return this.setAbout(me, question.text);
      case 'set-name':
        return this.setName(me, question.text);
      case 'block':
        return this.block(me, question.phone, question.blocked);
      case 'reject-call':
        return this.rejectCall(me, question.id);
      default:
        return undefined;
    }
  }

  /** Somebody who has blocked the asker shows nothing. */
  private aboutOf(me: string, number: string): { about: string } | null {
    const phone = this.phones.find(number);
    if (!phone || this.phones.hasBlocked(number, me)) return null;
    const { about = DEFAULT_ABOUT } = phone;
    return about === null ? null : { about };
  }

  private businessOf(number: string) {
    const phone = this.phones.find(number);
    return phone?.isBusiness ? (phone.businessProfile ?? {}) : null;
  }

  private async setAbout(me: string, text: string | null): Promise<true> {
    if (text !== null && text.length > MAX_ABOUT_LENGTH) throw new Error('WhatsApp refuses this text.');
    await this.phones.change(me, { about: text });
    return true;
  }

  private async setName(me: string, name: string): Promise<true> {
    if (name === '' || name.length > MAX_NAME_LENGTH) throw new Error('WhatsApp refuses this name.');
    await this.phones.change(me, { name });
    this.browsers.sendProfile(me);
    return true;
  }

  private async block(me: string, number: string, blocked: boolean): Promise<true> {
    const { phone } = this.phones.require(number);
    await this.phones.block({ owner: me, phone, blocked });
    this.browsers.sendProfile(me);
    return true;
  }

  private rejectCall(me: string, id: string): true {
    this.ringing.change(id, me, 'over');
    return true;
  }
}
