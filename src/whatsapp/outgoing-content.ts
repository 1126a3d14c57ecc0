/** A file on this machine that is to be sent. */
export interface OutgoingFile {
  path: string;
  mimetype: string;
  filename: string;
  /** In bytes. */
  size: number;
}

/** What a message says, in the words of the contract. */
export type OutgoingContent =
  | { type: 'text'; text: string }
  | { type: OutgoingMediaType; caption: string | null; file: OutgoingFile }
  | { type: 'location'; latitude: number; longitude: number; description: string | null }
  | { type: 'contact'; cards: { name: string; vcard: string }[] }
  | {
      type: 'poll';
      question: string;
      options: string[];
      multiple: boolean;
      /** 32 bytes from which the keys of the votes are derived: the same at every attempt, or some votes could not be read. */
      secret: number[];
    };

export type OutgoingMediaType = 'image' | 'video' | 'audio' | 'voice' | 'document' | 'sticker';
