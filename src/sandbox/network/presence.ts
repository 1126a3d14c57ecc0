/** What the owner of a phone does now. */
export type PresenceState = 'available' | 'unavailable' | 'composing' | 'recording' | 'paused';

/** What a page that has subscribed to a chat hears. */
export interface PresenceFrame {
  t: 'presence';
  /** The chat: the number of a person, or the address of a group. */
  of: string;
  /** In a group: the number of the person. */
  by?: string;
  type: PresenceState;
  /** When the person was online last, in seconds since 1970. Null while it is online, or if it hides that. */
  lastSeen: number | null;
}
