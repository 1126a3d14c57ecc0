import type { PreparedContent } from '../messages/content-preparation.js';
import type { Campaign, CampaignMessage } from './campaign.entity.js';
import {
  type MessageTemplate,
  parseMessageTemplate,
  renderMessage,
  type TemplatedMessage,
  variablesOfMessage,
} from './message-template.js';

import { messagesOf } from './variants.js';
import { type TextWarning, textWarningsOf } from './text-warnings.js';

/** A recipient for whom a message is rendered. */
export interface TemplateRecipient {
  id: string;
  /** The digits of the number, or a chat id. */
  recipient: string;
  variables: Record<string, string>;
}

/** The message for one recipient, or why there is none. */
export type Rendered = { content: PreparedContent; problem: null } | { content: null; problem: string };

/** The message of a campaign, parsed once for all its recipients. */
export class CampaignTemplate {
  private readonly template: MessageTemplate<TemplatedMessage>;

  constructor(readonly message: CampaignMessage) {
    const { text, media, content, spin = false } = message;
    this.template = parseMessageTemplate(
      {
        text,
        media: media && { caption: media.caption },
        location: content?.location ?? null,
        poll: content?.poll ?? null,
      },
      { spin },
    );
  }

  /** The messages of a campaign. */
  static allOf(campaign: Pick<Campaign, 'message' | 'variants'>): CampaignTemplate[] {
    return messagesOf(campaign).map((message) => new CampaignTemplate(message));
  }

  /** What the preflight says about the texts. */
  get warnings(): TextWarning[] {
    return textWarningsOf(this.template);
  }

  /** The variables that every recipient needs: those without a fallback. */
  get required(): string[] {
    return variablesOfMessage(this.template)
      .filter(({ hasFallback }) => !hasFallback)
      .map(({ name }) => name);
  }

  /** The same recipient always gets the same text. */
  render({ id, recipient, variables }: TemplateRecipient): Rendered {
    const { message, missing, errors } = renderMessage(this.template, { to: recipient, variables, seed: id });
    if (message === null) {
      const reasons = errors.map((error) => `${error.path} ${error.message}`);
      if (missing.length > 0) reasons.unshift(`has no value for ${missing.join(', ')}`);
      return { content: null, problem: reasons.join('; ') };
    }
    const { media, content } = this.message;
    return {
      problem: null,
      content: {
        text: (media ? message.media?.caption : message.text) ?? null,
        media: media && fileOf(media),
        content: content && {
          ...content,
          ...(content.location ? { location: { ...content.location, ...message.location } } : {}),
          ...(content.poll ? { poll: { ...content.poll, ...message.poll } } : {}),
        },
      },
    };
  }
}

/** The file without its caption, as a message keeps it. */
function fileOf(media: NonNullable<CampaignMessage['media']>): PreparedContent['media'] {
  const { mediaId, mimetype, size, filename, sha256, converted, error } = media;
  return { mediaId, mimetype, size, filename, sha256, converted, error };
}
