import { IsIn, IsOptional } from 'class-validator';
import { PageQuery } from '../platform/http/pagination.js';
import { type Media, type MediaOrigin, mediaSources } from './media.entity.js';

export class ListMediaQuery extends PageQuery {
  /** Only media from this source. */
  @IsOptional()
  @IsIn(mediaSources)
  source?: MediaOrigin;
}

export class MediaResponse {
  /** @example 019a1b2c-3d4e-7f00-8000-0123456789ab */
  mediaId!: string;
  /**
   * The type of the file, by its bytes.
   * @example image/jpeg
   */
  mimetype!: string;
  /**
   * The length in bytes.
   * @example 48213
   */
  size!: number;
  /** The SHA-256 of the content, in hexadecimal. */
  sha256!: string;
  /** @example parcel.jpg */
  filename!: string | null;
  /** `upload`: uploaded. `url`: downloaded from the URL of a message. `data`: in the request of a message. `incoming`: received. */
  source!: MediaOrigin;
  createdAt!: string;
  /** When a message last used it. Flotilla may delete it `MEDIA_RETENTION_DAYS` after that. */
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
