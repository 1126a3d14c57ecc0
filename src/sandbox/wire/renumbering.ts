import { randomBytes } from 'node:crypto';
import { ConflictException, Injectable } from '@nestjs/common';
import { Outbox } from '../journal/outbox.js';
import type { BrowserEvent, NumberEvent } from '../network/events.js';
import { GroupActions } from '../network/group-actions.js';
import { type Phone, PhoneRegistry } from '../network/phones.js';
import { Linking } from './linking.js';

/** Moves the account of a phone to a new number. */
@Injectable()
export class Renumbering {
  constructor(
    private readonly phones: PhoneRegistry,
    private readonly groupActions: GroupActions,
    private readonly outbox: Outbox<BrowserEvent>,
    private readonly linking: Linking,
  ) {}

  /**
   * Unlinks the browsers of the phone, moves the phone and its memberships of groups, and tells everybody who has the old number in
   * the address book.
   * @throws ConflictException when the new number is registered
   */
  async move(phone: Phone, to: string): Promise<Phone> {
    const from = phone.phone;
    if (this.phones.find(to))
      throw new ConflictException(`${to} is registered: choose a number that is not.`);
    const friends = this.phones.ownersThatKnow(from);
    const credentials = [...this.phones.credentialsOf(from)];
    await Promise.all(credentials.map((credential) => this.linking.unlink(credential)));
    const moved = await this.phones.move(from, to);
    await this.groupActions.moveMember(from, to);
    const event: NumberEvent = {
      k: 'number',
      id: randomBytes(10).toString('hex').toUpperCase(),
      from,
      to,
      name: moved.name,
      t: Math.floor(Date.now() / 1000),
    };
    const events = friends.flatMap((friend) =>
      [...this.phones.credentialsOf(friend)].map(({ id: credential }) => ({ credential, event, delayMs: 0 })),
    );
    this.outbox.add(this.outbox.lastSeq, events);
    return moved;
  }
}
