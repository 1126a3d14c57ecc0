import { createHash } from 'node:crypto';
import type { Campaign, CampaignMessage } from './campaign.entity.js';

/** A message that a share of the recipients gets. */
export interface Variant {
  share: number;
  message: CampaignMessage;
}

type Messages = Pick<Campaign, 'message' | 'variants'>;

/** All messages of a campaign, in order. */
export function messagesOf({ message, variants }: Messages): CampaignMessage[] {
  return variants ? variants.map((variant) => variant.message) : [message];
}

/** The name of a variant: `A` is the first one. */
export function variantName(index: number): string {
  return String.fromCharCode(65 + index);
}

/** Which of {@link messagesOf} a recipient gets: always the same one, by chance that follows the shares. */
export function variantOf({ variants }: Pick<Campaign, 'variants'>, recipientId: string): number {
  if (!variants) return 0;
  const total = variants.reduce((sum, { share }) => sum + share, 0);
  let left = createHash('sha256').update(`variant ${recipientId}`).digest().readUInt32BE(0) % total;
  return variants.findIndex(({ share }) => (left -= share) < 0);
}
