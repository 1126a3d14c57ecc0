/** A file on this machine to send. */
export interface OutgoingFile {
  path: string;
  mimetype: string;
  filename: string;
  /** In bytes. */
  size: number;
}

/** The content of a message, with the names of the public API. */
export type OutgoingContent =
  | { type: 'text'; text: string; linkPreview?: boolean }
  | {
      type: OutgoingMediaType;
      caption: string | null;
      file: OutgoingFile;
      viewOnce?: boolean;
      /** A video that plays again and again, without sound. */
      gif?: boolean;
    }
  | { type: 'location'; latitude: number; longitude: number; description: string | null }
  | { type: 'contact'; cards: { name: string; vcard: string }[] }
  | {
      type: 'poll';
      question: string;
      options: string[];
      multiple: boolean;
      /** 32 bytes, from which the keys of the votes derive. Every attempt must use the same, or some votes are unreadable. */
      secret: number[];
    };

export type OutgoingMediaType = 'image' | 'video' | 'audio' | 'voice' | 'document' | 'sticker';
