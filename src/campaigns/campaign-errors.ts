import { Problem } from '../platform/errors/problem.js';
import type { CampaignStatus } from './campaign-statuses.js';
import { neverAllowedHint } from './sending-windows.js';

export class CampaignNotFound extends Problem {
  constructor(id: string) {
    super(
      404,
      'campaign.not_found',
      `This workspace has no campaign ${id}. GET /campaigns lists its campaigns.`,
    );
  }
}

export class TemplateNotFound extends Problem {
  constructor(id: string, version: number | null = null) {
    super(
      404,
      'template.not_found',
      version === null
        ? `This workspace has no template ${id}. GET /templates lists its templates.`
        : `This workspace has no template ${id} with version ${version}. GET /templates/${id}/versions lists its versions.`,
    );
  }
}

export class RecipientNotFound extends Problem {
  constructor(id: string) {
    super(404, 'campaign.recipient_not_found', `This campaign has no recipient ${id}.`);
  }
}

const cures: Record<CampaignStatus, string> = {
  draft: 'POST /campaigns/:id/start starts it.',
  scheduled: 'POST /campaigns/:id/pause stops it before it starts.',
  running: 'POST /campaigns/:id/pause stops it.',
  paused: 'POST /campaigns/:id/resume goes on.',
  completed: 'Make a new campaign.',
  cancelled: 'Make a new campaign.',
};

/** The campaign is in a status in which this cannot be done. */
export class CampaignStatusConflict extends Problem {
  constructor(action: string, status: CampaignStatus) {
    super(
      409,
      'campaign.status_conflict',
      `The campaign is ${status}, so it cannot be ${action}. ${cures[status]}`,
    );
  }
}

/** No moment is inside the sending times of the campaign for some of its recipients. */
export class CampaignNeverAllowed extends Problem {
  constructor(zone: string) {
    super(409, 'campaign.never_allowed', neverAllowedHint(zone));
  }
}

export class CampaignHasNoRecipients extends Problem {
  constructor() {
    super(
      409,
      'campaign.no_recipients',
      'The campaign has no recipients. Upload a list first: POST /campaigns/:id/recipients.',
    );
  }
}

export class TooManyLoads extends Problem {
  constructor(limit: number) {
    super(
      429,
      'campaign.too_many_loads',
      `Flotilla is reading ${limit} lists of this workspace, the limit. Upload the next list when one is done: one list may have any size.`,
      undefined,
      10,
    );
  }
}
