import { ConverterMissing, NotConvertible, TooManyConversions } from './media-converter.js';
import { StorageLimitReached } from './media-keeper.js';
import { MediaEmpty, MediaTooLarge } from './media-spool.js';
import { MediaStorageUnavailable } from './media-storage.js';
import { MediaTypeMismatch, MediaTypeRefused } from './media-type.js';

/** The problems that a request with a file may have. */
export const fileProblems = [
  MediaTooLarge,
  MediaEmpty,
  new MediaTypeMismatch(
    'The bytes of the file are not image/png. Declare the right type, or leave the type out.',
  ),
  MediaTypeRefused,
  StorageLimitReached,
  MediaStorageUnavailable,
];

/** The problems that a message with a file may have besides. */
export const conversionProblems = [
  ConverterMissing,
  new NotConvertible('audio/mpeg', 'voice'),
  new TooManyConversions(),
];
