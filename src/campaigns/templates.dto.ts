import { Type } from 'class-transformer';
import { IsObject, Length, ValidateNested } from 'class-validator';
import { Optional } from '../platform/http/optional.js';
import { CampaignMessageDto, shownMessage } from './campaigns.dto.js';
import { CampaignTemplate } from './campaign-template.js';
import type { StoredTemplate, TemplateVersion } from './templates.service.js';

export class CreateTemplateDto {
  /** @example "Welcome" */
  @Length(1, 200)
  name!: string;

  @IsObject()
  @ValidateNested()
  @Type(() => CampaignMessageDto)
  message!: CampaignMessageDto;
}

export class UpdateTemplateDto {
  @Optional()
  @Length(1, 200)
  name?: string;

  @Optional()
  @IsObject()
  @ValidateNested()
  @Type(() => CampaignMessageDto)
  message?: CampaignMessageDto;
}

export class TemplateResponse {
  id!: string;
  name!: string;
  /** The number of the newest version, from 1. */
  version!: number;
  message!: Record<string, unknown>;
  /** The variables that every recipient needs: those without a fallback. */
  requiredVariables!: string[];
  createdAt!: string;
  /** When the newest version was made. */
  updatedAt!: string;
}

export class TemplateVersionResponse {
  version!: number;
  message!: Record<string, unknown>;
  createdAt!: string;
}

export function toTemplateResponse({
  id,
  name,
  version,
  message,
  createdAt,
  updatedAt,
}: StoredTemplate): TemplateResponse {
  return {
    id,
    name,
    version,
    message: shownMessage(message),
    requiredVariables: new CampaignTemplate(message).required,
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString(),
  };
}

export function toTemplateVersionResponse({
  version,
  message,
  createdAt,
}: TemplateVersion): TemplateVersionResponse {
  return { version, message: shownMessage(message), createdAt: createdAt.toISOString() };
}
