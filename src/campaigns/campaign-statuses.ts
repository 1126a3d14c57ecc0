export const campaignStatuses = [
  'draft',
  'scheduled',
  'running',
  'paused',
  'completed',
  'cancelled',
] as const;
export type CampaignStatus = (typeof campaignStatuses)[number];

/** What a resume sends: to whom nothing was sent yet, again to whom it failed, or both. */
export const resumeKinds = ['pending', 'failed', 'all'] as const;
export type ResumeKind = (typeof resumeKinds)[number];

/** Whether nothing of it will be sent any more. */
export function isEnded(status: CampaignStatus): boolean {
  return status === 'completed' || status === 'cancelled';
}
