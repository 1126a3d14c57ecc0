import { StorageLimitReached } from './media-keeper.js';
import { MediaEmpty, MediaTooLarge } from './media-spool.js';
import { MediaStorageUnavailable } from './media-storage.js';
import { MediaTypeMismatch, MediaTypeRefused } from './media-type.js';

/** What may happen when a file is taken in. */
export const ofFiles = [
  MediaTooLarge,
  MediaEmpty,
  new MediaTypeMismatch('Its bytes are no image/png. Send it as what it is, or as a document.'),
  MediaTypeRefused,
  StorageLimitReached,
  MediaStorageUnavailable,
];
