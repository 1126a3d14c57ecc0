/** What a message says about its media: where the encrypted bytes are, and how to decrypt them. */
export interface MediaPointer {
  directPath: string;
  /** All in base64: the key, and the SHA-256 of the encrypted and of the plain bytes. */
  mediaKey: string;
  encFilehash: string;
  filehash: string;
  mimetype: string;
  size: number;
  filename?: string;
}

/** What the answered message says. An answer carries a copy, because its reader may not have that message. */
export interface Quoted {
  /** In WhatsApp's words. */
  type: string;
  text: string;
  /** The number that wrote it. */
  from: string;
}

/** An invite to a group, which its recipient can accept until it expires. */
export interface GroupInvite {
  code: string;
  /** Seconds since 1970. */
  expiresAt: number;
  group: string;
  subject: string;
}

/** An appointment. Times are seconds since 1970. */
export interface ScheduledEvent {
  name: string;
  description?: string;
  startTime: number;
  endTime?: number;
  location?: string;
  /** The link to its call. */
  joinLink?: string;
  canceled: boolean;
}

/** What a message carries besides its text. */
export interface Content {
  /** `sha256` is the hash of the plain bytes, in hexadecimal digits: a test compares it with the file that was sent. */
  media?: MediaPointer & { sha256: string };
  location?: { latitude: number; longitude: number; description?: string };
  contacts?: { name: string; vcard: string }[];
  poll?: { question: string; options: string[]; multiple: boolean };
  /** The WhatsApp id of the message that it answers. */
  replyTo?: string;
  quoted?: Quoted;
  /** An invite to a group, for its recipient only. */
  invite?: GroupInvite;
  /** The preview of the link in the text. */
  preview?: { url: string; title: string };
  /** The recipient may look at it once. */
  viewOnce?: true;
  /** A video without sound that plays again and again. */
  gif?: true;
  /** How long audio or video lasts, in seconds. */
  duration?: number;
  /** Votes in a poll are encrypted with it: 32 bytes in base64. */
  secret?: string;
  /** Digits of phone numbers. */
  mentions?: string[];
  /** It is no message in a chat: a story of its sender, or a post in the sender's channel. */
  as?: 'story' | 'channel';
  /** The recipients' browsers cannot decrypt it yet. */
  undecrypted?: true;
  /** How often the message was forwarded before it came here, 1 at least. */
  forwardingScore?: number;
  event?: ScheduledEvent;
  /** Invites the recipient to become an admin of a channel. */
  channelInvite?: { channel: string; name: string };
  /** Of the line about a call: how it ended, in WhatsApp's words. */
  callLog?: { outcome: 'Missed' | 'AcceptedElsewhere'; video: boolean };
  /** The colours of a story without a picture. */
  style?: { color: number; font: number };
}
