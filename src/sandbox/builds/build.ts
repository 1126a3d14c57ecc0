/** A build of WhatsApp Web: a version, and how its page differs from the other builds. */
export interface Build {
  name: string;
  /** What `Debug.VERSION` says. */
  version: string;
  /** The own field of a message key that holds the text of the key. */
  keyField: '_serialized' | '$1';
  /** Media that is prepared for a message carries `__x_id`, and a message that gets `__x_id` cannot be made. */
  mediaHasId: boolean;
  /** `WAWebCmd` can refresh the QR code. */
  cmdRefreshesQr: boolean;
  /** The block list holds the LIDs of people, not their numbers. Public copies of both kinds exist; their builds are not known. */
  blocklistHasLids: boolean;
  /** `WAWebBlockContactUtils` finds the contact to block. One public copy lacks that function. */
  hasContactToBlock: boolean;
  /** An invite to one person is sent by one object instead of seven arguments (single source). */
  inviteIsOneObject: boolean;
}
