import { Injectable } from '@nestjs/common';
import { Outbox } from '../journal/outbox.js';
import { isGroupId } from '../addresses.js';
import { type Call, Calls } from '../network/calls.js';
import type { BrowserEvent, MessageEvent } from '../network/events.js';
import { GroupRegistry } from '../network/groups.js';
import { PhoneRegistry } from '../network/phones.js';
import { OnlineBrowsers } from './online-browsers.js';

/** Lets browsers ring, and writes a line about each call into the chats of those who were called. */
@Injectable()
export class Ringing {
  constructor(
    private readonly phones: PhoneRegistry,
    private readonly groups: GroupRegistry,
    private readonly calls: Calls,
    private readonly browsers: OnlineBrowsers,
    private readonly outbox: Outbox<BrowserEvent>,
  ) {}

  /**
   * The owner of a phone calls another phone, or the other members of a group. The linked browsers of those who have not blocked the
   * caller ring.
   * @param at when the call began
   * @throws NotFoundException
   */
  call(from: string, to: string, video: boolean, at?: Date): Call {
    const others = isGroupId(to)
      ? this.groups.require(to).members.map(({ phone }) => phone)
      : [this.phones.require(to).phone];
    const called = others.filter((phone) => phone !== from);
    const call = this.calls.begin({ from, to: isGroupId(to) ? to : called[0]!, called, video }, at);
    const { id } = call;
    const group = isGroupId(to) ? { group: to } : {};
    const t = Math.floor(Date.parse(call.at) / 1000);
    const hidden = this.phones.require(from).hidesNumber ?? false;
    for (const phone of called)
      if (!this.phones.hasBlocked(phone, from))
        this.browsers.sendTo(phone, { t: 'call', call: { id, from, video, hidden, t, ...group } });
    return call;
  }

  /**
   * The owner of a called phone answers or rejects a call, on the phone or in a browser; or the caller ends it.
   * @throws NotFoundException
   */
  change(id: string, phone: string, wanted: 'answered' | 'over'): Call {
    const before = this.calls.get(id, phone);
    const change = wanted === 'answered' ? wanted : before.from === phone ? 'ended' : 'rejected';
    const call = this.calls.change(id, phone, change);
    if (before.state !== 'ringing') return call;
    const silent = change === 'rejected' ? [phone] : call.called;
    for (const other of silent) {
      this.browsers.sendTo(other, { t: 'call-ended', id });
      // A person who has rejected a call has its line already.
      if (!before.rejectedBy.includes(other))
        this.log(call, other, change === 'answered' ? 'AcceptedElsewhere' : 'Missed');
    }
    return call;
  }

  /** As on the real page, the line does not tell a call that was rejected from one that nobody took. */
  private log(call: Call, phone: string, outcome: 'Missed' | 'AcceptedElsewhere'): void {
    if (this.phones.hasBlocked(phone, call.from)) return;
    const caller = this.phones.require(call.from);
    const event: MessageEvent = {
      k: 'msg',
      id: call.id,
      chat: isGroupId(call.to) ? call.to : call.from,
      fromMe: false,
      ...(isGroupId(call.to) ? { author: call.from } : {}),
      ...(caller.hidesNumber ? { hidden: true } : {}),
      type: 'call_log',
      text: '',
      t: Math.floor(Date.parse(call.at) / 1000),
      name: caller.name ?? '',
      content: { callLog: { outcome, video: call.video } },
    };
    const credentials = [...this.phones.credentialsOf(phone)];
    // No line of the ledger: nobody wrote it.
    this.outbox.add(
      this.outbox.lastSeq,
      credentials.map(({ id: credential }) => ({ credential, event, delayMs: 0 })),
    );
  }
}
