import { Injectable } from '@nestjs/common';
import { ContentPreparation } from '../messages/content-preparation.js';
import { SendMessageDto } from '../messages/messages.dto.js';
import { ValidationFailed } from '../platform/errors/problem.js';
import { toDto } from '../platform/http/validation.js';
import type { CampaignMessage } from './campaign.entity.js';
import type { CampaignMessageDto, CreateCampaignDto } from './campaigns.dto.js';
import { parseMessageTemplate } from './message-template.js';
import { TemplatesService } from './templates.service.js';
import type { Variant } from './variants.js';

/** What a campaign sends: its message, or its variants, or the text of a stored template as it was. */
export interface CampaignContent {
  message: CampaignMessage;
  variants: Variant[] | null;
  templateId: string | null;
  templateVersion: number | null;
}

type Wanted = Partial<Pick<CreateCampaignDto, 'message' | 'variants' | 'templateId' | 'templateVersion'>>;

/** Prepares the messages of campaigns and templates. */
@Injectable()
export class CampaignMessagesService {
  constructor(
    private readonly contents: ContentPreparation,
    private readonly templates: TemplatesService,
  ) {}

  /** @throws ValidationFailed, TemplateNotFound, and the errors of {@link prepareMessage} */
  async contentOf(workspaceId: string, wanted: Wanted): Promise<CampaignContent> {
    const { message, variants, templateId, templateVersion } = wanted;
    if ([message, variants, templateId].filter((one) => one !== undefined).length !== 1)
      throw new ValidationFailed([
        { path: 'message', message: 'must be there, or variants, or templateId: one of the three' },
      ]);
    if (templateVersion !== undefined && templateId === undefined)
      throw new ValidationFailed([{ path: 'templateVersion', message: 'needs templateId' }]);
    if (templateId !== undefined) {
      const found = await this.templates.version(workspaceId, templateId, templateVersion);
      return { message: found.message, variants: null, templateId, templateVersion: found.version };
    }
    const none = { templateId: null, templateVersion: null };
    if (message) return { ...none, message: await this.prepareMessage(workspaceId, message), variants: null };
    const prepared: Variant[] = [];
    for (const [index, variant] of variants!.entries())
      prepared.push({
        share: variant.share,
        message: await this.prepareMessage(workspaceId, variant.message, `variants.${index}.message`),
      });
    return { ...none, message: prepared[0]!.message, variants: prepared };
  }

  /**
   * Stores the file of a message, and finds the mistakes of its templates.
   * @throws ValidationFailed, ContentMismatch, and the errors of `MediaService.take`
   */
  async prepareMessage(
    workspaceId: string,
    { metadata, spin = false, ...wanted }: CampaignMessageDto,
    path = 'message',
  ): Promise<CampaignMessage> {
    // Any recipient: the content does not depend on it.
    const dto = Object.assign(toDto(SendMessageDto, {}), wanted, { to: 'campaign' });
    parseMessageTemplate(wanted, { spin, path });
    const { text, media, content } = await this.contents.prepare(workspaceId, dto, () => Promise.resolve());
    const { caption } = wanted.media ?? {};
    return {
      type: dto.type,
      text: media ? null : text,
      media: media && { ...media, caption: caption ?? null },
      content,
      metadata: metadata ?? {},
      ...(spin ? { spin } : {}),
    };
  }
}
