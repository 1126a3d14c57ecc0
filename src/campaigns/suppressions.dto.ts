import { IsOptional, Length, registerDecorator } from 'class-validator';
import { parseRecipient, recipientHint } from '../messages/recipient.js';
import { Optional } from '../platform/http/optional.js';
import { PageQuery } from '../platform/http/pagination.js';
import { maxReasonLength, type SuppressionRow } from './suppressions.service.js';

export const suppressionSources = ['manual', 'import', 'reply'] as const;
export type SuppressionSource = (typeof suppressionSources)[number];

/** A phone number in any usual notation, or the chat id of a person. */
function IsPerson(): PropertyDecorator {
  return (target, propertyName) =>
    registerDecorator({
      name: 'isPerson',
      target: target.constructor,
      propertyName: String(propertyName),
      validator: {
        validate: (value: unknown) => {
          const recipient = typeof value === 'string' ? parseRecipient(value) : null;
          return recipient !== null && !recipient.chatId.endsWith('@g.us');
        },
        defaultMessage: (found) => recipientHint(found?.value, '@c.us or @lid'),
      },
    });
}

export class AddSuppressionDto {
  /**
   * The phone number of the person in any usual notation, or the id of a hidden number (`…@lid`).
   * @example "+6281234567890"
   */
  @IsPerson()
  to!: string;

  /** @example "asked by phone" */
  @Optional()
  @Length(1, maxReasonLength)
  reason?: string;
}

export class ListSuppressionsQuery extends PageQuery {
  /** Only this person, in any form of the number. */
  @IsOptional()
  @IsPerson()
  to?: string;
}

/** A person who gets no campaigns. */
export class SuppressionResponse {
  id!: string;
  workspaceId!: string;
  /** The digits of the phone number with country code, or the id of a hidden number. */
  to!: string;
  /** `manual`: by `POST /suppressions`. `import`: from a list. `reply`: the person has opted out. */
  source!: SuppressionSource;
  /** Of a `reply`: what the person wrote. */
  reason!: string | null;
  /** The message that opts out. */
  messageId!: string | null;
  /** The account that got this message. */
  accountId!: string | null;
  createdAt!: string;
}

export function toSuppressionResponse(workspaceId: string, row: SuppressionRow): SuppressionResponse {
  return {
    id: row.id,
    workspaceId,
    to: row.address,
    source: row.source,
    reason: row.reason,
    messageId: row.message_id,
    accountId: row.account_id,
    createdAt: row.created_at.toISOString(),
  };
}
