import type { IncomingCall } from '../wire/frames.js';
import { createWid, lidOfPhone, type Wid, widOfPhone } from './ids.js';
import type { Link } from './link.js';

/** A call as WhatsApp Web holds it. */
interface Call {
  id: string;
  peerJid: Wid;
  isVideo: boolean;
  isGroup: boolean;
  canHandleLocally: boolean;
  outgoing: boolean;
  webClientShouldHandle: boolean;
  participants: Wid[];
  groupJid?: Wid;
  /** When it began, in seconds since 1970. */
  offerTime: number;
}

/** What the page sends to the server as XML. */
interface Stanza {
  tag: string;
  attributes: Record<string, string>;
  children: Stanza[];
}

/** The calls that ring. whatsapp-web.js replaces `set` of the map to hear of them. */
export class Calls {
  #link: Link;
  #calls = new Map<string, Call>();
  #nextId = 1;

  constructor(link: Link) {
    this.#link = link;
    link.on('call', ({ call }) => this.#ring(call));
    link.on('call-ended', ({ id }) => this.#calls.delete(id));
    link.on('connecting', () => this.#calls.clear());
  }

  /** The modules of WhatsApp Web for calls. */
  get modules() {
    return {
      WAWebCallCollection: { calls: this.#calls, on() {} },
      'WAWebCallLogMsgData.flow': {
        CallOutcome: { Missed: 'Missed', AcceptedElsewhere: 'AcceptedElsewhere' },
      },
      WAWap: {
        wap: (tag: string, attributes: Record<string, string>, children: Stanza[] | Stanza = []): Stanza => ({
          tag,
          attributes,
          children: Array.isArray(children) ? children : [children],
        }),
        generateId: () => String(this.#nextId++),
      },
      WADeprecatedSendIq: { deprecatedCastStanza: (stanza: Stanza) => this.#cast(stanza) },
    };
  }

  #ring({ id, from, video, hidden, group, t }: IncomingCall): void {
    this.#calls.set(id, {
      id,
      peerJid: hidden ? lidOfPhone(from) : widOfPhone(from),
      isVideo: video,
      isGroup: group !== undefined,
      canHandleLocally: true,
      outgoing: false,
      webClientShouldHandle: false,
      participants: [],
      ...(group === undefined ? {} : { groupJid: createWid(group) }),
      offerTime: t,
    });
  }

  /** Sends a stanza. The server understands one kind: the rejection of a call. */
  async #cast({ tag, attributes, children }: Stanza): Promise<void> {
    const reject = children.find((child) => child.tag === 'reject');
    if (tag !== 'call' || !reject) throw new Error(`The sandbox does not know the stanza "${tag}".`);
    // The real server answers to such an address only.
    createWid(attributes['to']);
    await this.#link.ask('reject-call', { id: reject.attributes['call-id'] ?? '' });
  }
}
