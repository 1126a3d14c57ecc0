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
}
