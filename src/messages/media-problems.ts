import { Problem } from '../platform/errors/problem.js';

/** WhatsApp no longer has the media, so a retry cannot succeed. */
export class MediaGone extends Problem {
  constructor(cause?: unknown) {
    super(409, 'media.unavailable', 'WhatsApp no longer has this media. Ask the sender to send it again.');
    this.cause = cause;
  }
}

/** The download failed, and a retry may succeed. */
export class MediaNotDownloaded extends Problem {
  constructor(cause?: unknown) {
    super(
      409,
      'media.not_downloaded',
      'WhatsApp Web did not provide this media. When the account is ready, try again with POST /messages/:id/media.',
    );
    this.cause = cause;
  }
}

/** The account or the instance is busy with other downloads, and too many requests already wait. */
export class DownloadsBusy extends Problem {
  constructor() {
    super(409, 'media.not_downloaded', 'Too many downloads are running. Try again in a minute.');
  }
}
