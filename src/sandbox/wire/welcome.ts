import { Injectable } from '@nestjs/common';
import { lidOf } from '../addresses.js';
import { ChannelActions } from '../network/channel-actions.js';
import { FaultSettings } from '../network/fault-settings.js';
import { groupStateOf } from '../network/group-state.js';
import { GroupRegistry } from '../network/groups.js';
import { type Credential, PhoneRegistry } from '../network/phones.js';
import type { OwnProfile, WelcomeFrame } from './frames.js';

/** Makes the first frame for a linked browser: its account, its groups, its channels and its contacts. */
@Injectable()
export class Welcome {
  constructor(
    private readonly phones: PhoneRegistry,
    private readonly groups: GroupRegistry,
    private readonly faults: FaultSettings,
    private readonly channelActions: ChannelActions,
  ) {}

  /** What the pages of a phone know of their own account. */
  profileOf(phone: string): OwnProfile {
    const { name = '', isBusiness = false } = this.phones.find(phone) ?? {};
    return { name, isBusiness, blocked: this.phones.blockedBy(phone) };
  }

  /** The frame for a browser that missed this many events. */
  frameFor({ phone }: Credential, missed: number): WelcomeFrame {
    const { syncDelayMs, earlySync, dialog } = this.faults.of(phone);
    return {
      t: 'welcome',
      phone,
      lid: lidOf(phone),
      profile: this.profileOf(phone),
      offline: missed,
      syncDelayMs,
      earlySync,
      dialog,
      groups: this.groups.list(phone).map((group) => groupStateOf(group, this.phones)),
      channels: this.channelActions.statesFor(phone),
      contacts: this.phones.contactsOf(phone),
    };
  }
}
