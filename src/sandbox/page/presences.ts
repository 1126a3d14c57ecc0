import type { PresenceFrame } from '../wire/frames.js';
import { addressOf, lidOfPhone, type Wid } from './ids.js';
import type { Link } from './link.js';
import { Chat } from './models.js';

/** What a person does now, as WhatsApp Web holds it. */
interface ChatState {
  type?: string;
  /** Seconds since 1970. */
  t?: number;
  /** The person does not show when it was online last. */
  deny?: boolean;
}

/** The presence of the other side of a chat. */
interface Presence {
  hasData: boolean;
  isOnline: boolean;
  isSubscribed: boolean;
  chatstate: ChatState;
  /** In a group: of each member. */
  chatstates: { getModelsArray(): (ChatState & { id: Wid })[] };
  subscribe(): Promise<void>;
}

/** Who is online and who types. A page hears it only of the chats that it has subscribed to. */
export class Presences {
  #link: Link;
  #presences = new Map<string, Presence & { members: Map<string, ChatState & { id: Wid }> }>();

  constructor(link: Link) {
    this.#link = link;
    link.on('presence', (frame) => this.#receive(frame));
    const presenceOf = (chat: Chat) => this.#of(addressOf(chat.id));
    Object.defineProperty(Chat.prototype, 'presence', {
      configurable: true,
      get(this: Chat) {
        return presenceOf(this);
      },
    });
  }

  #of(address: string) {
    const known = this.#presences.get(address);
    if (known) return known;
    const members = new Map<string, ChatState & { id: Wid }>();
    const presence = {
      hasData: false,
      isOnline: false,
      isSubscribed: false,
      chatstate: {},
      members,
      chatstates: { getModelsArray: () => [...members.values()] },
      subscribe: async () => {
        presence.isSubscribed = true;
        const frame = await this.#link.ask('presence', { of: address });
        if (frame) this.#receive(frame);
      },
    };
    this.#presences.set(address, presence);
    return presence;
  }

  #receive({ of, by, type, lastSeen }: PresenceFrame): void {
    const presence = this.#of(of);
    presence.hasData = true;
    if (by !== undefined) {
      if (type === 'paused') presence.members.delete(by);
      else presence.members.set(by, { id: lidOfPhone(by), type });
      return;
    }
    presence.isOnline = type !== 'unavailable';
    presence.chatstate = {
      type,
      ...(lastSeen === null ? { deny: type === 'unavailable' } : { t: lastSeen }),
    };
  }
}
