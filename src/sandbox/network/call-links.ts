import { randomBytes } from 'node:crypto';

/** A link to a call that is planned. */
export interface CallLink {
  url: string;
  by: string;
  kind: 'video' | 'voice';
  /** Seconds since 1970. */
  startTime: number;
}

const MAX_LINKS = 1000;

/** The newest links to calls. They do not survive a restart. */
export class CallLinks {
  private readonly links: CallLink[] = [];

  /** Creates a link, as WhatsApp does for a scheduled event. */
  create(by: string, { kind, startTime }: Pick<CallLink, 'kind' | 'startTime'>): string {
    if (!['video', 'voice'].includes(kind)) throw new Error(`WhatsApp has no calls of the kind "${kind}".`);
    const url = `https://call.whatsapp.com/${kind}/${randomBytes(16).toString('base64url')}`;
    this.links.push({ url, by, kind, startTime });
    if (this.links.length > MAX_LINKS) this.links.shift();
    return url;
  }

  /** The links, oldest first. */
  list(): readonly CallLink[] {
    return this.links;
  }
}
