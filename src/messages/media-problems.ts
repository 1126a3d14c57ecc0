import { Problem } from '../platform/errors/problem.js';

/** Another try would not get it either. */
export class MediaGone extends Problem {
  constructor(cause?: unknown) {
    super(409, 'media.unavailable', 'WhatsApp does not have it any more. Ask the sender for it.');
    this.cause = cause;
  }
}

/** Another try may get it. */
export class MediaNotDownloaded extends Problem {
  constructor(cause?: unknown) {
    super(
      409,
      'media.not_downloaded',
      'WhatsApp Web did not give it. Try again with POST /messages/:id/media when the account is ready.',
    );
    this.cause = cause;
  }
}

/** Its account or its instance is at others, and more of them wait than it makes sense to wait for. */
export class DownloadsBusy extends Problem {
  constructor() {
    super(
      409,
      'media.not_downloaded',
      'Other media is being downloaded at this moment. Try again in a minute.',
    );
  }
}
