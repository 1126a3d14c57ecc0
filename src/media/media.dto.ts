import { IsIn, IsOptional } from 'class-validator';
import { PageQuery } from '../platform/http/pagination.js';
import { type Media, type MediaOrigin, mediaSources } from './media.entity.js';

export class ListMediaQuery extends PageQuery {
  /** Only media that came this way. */
  @IsOptional()
  @IsIn(mediaSources)
  source?: MediaOrigin;
}

export class MediaResponse {
  /** @example 019a1b2c-3d4e-7f00-8000-0123456789ab */
  mediaId!: string;
  /**
   * What the file is by its bytes.
   * @example image/jpeg
   */
  mimetype!: string;
  /**
   * In bytes.
   * @example 48213
   */
  size!: number;
  /** Of its content, in hexadecimal. */
  sha256!: string;
  /** @example parcel.jpg */
  filename!: string | null;
  /** How it came: uploaded, downloaded from a URL of a message, in the body of a message, or received. */
  source!: MediaOrigin;
  createdAt!: string;
  /** When it was last taken for a message; it is kept for a time after that. */
  lastUsedAt!: string;
}

export function toMediaResponse(media: Media): MediaResponse {
  return {
    mediaId: media.id,
    mimetype: media.mimetype,
    size: media.size,
    sha256: media.sha256,
    filename: media.filename,
    source: media.source,
    createdAt: media.createdAt.toISOString(),
    lastUsedAt: media.lastUsedAt.toISOString(),
  };
}
