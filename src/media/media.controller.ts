import {
  Controller,
  Delete,
  Get,
  Head,
  HttpCode,
  Inject,
  Param,
  Post,
  Query,
  Req,
  Res,
} from '@nestjs/common';
import { ApiBody, ApiConsumes, ApiOkResponse, ApiOperation, ApiProduces } from '@nestjs/swagger';
import type { Request, Response } from 'express';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Fails, Paged } from '../platform/http/documentation.js';
import { type Page, toPage } from '../platform/http/pagination.js';
import { UuidPipe } from '../platform/http/uuid.pipe.js';
import { Allow, WorkspaceId } from '../workspaces/auth.guard.js';
import { RangeNotSatisfiable, sendMedia } from './media-download.js';
import { fileProblems } from './media-failures.js';
import { MediaBlobMissing, MediaStorageUnavailable } from './media-storage.js';
import { withoutTurn } from '../platform/http/fair-share.js';
import { receiveUpload, UploadMalformed, UploadUnsupported } from './media-upload.js';
import { ListMediaQuery, MediaResponse, toMediaResponse } from './media.dto.js';
import { MediaInUse, MediaNotFound, MediaService } from './media.service.js';

@Controller('media')
export class MediaController {
  constructor(
    private readonly media: MediaService,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  /**
   * Uploads a file. Send it with `media: {mediaId}`. Its bytes decide its type. The same file under the same name is the same
   * media.
   */
  @Allow('sender')
  @Fails(UploadMalformed, UploadUnsupported, ...fileProblems)
  @Post()
  @ApiConsumes('multipart/form-data')
  @ApiBody({
    required: true,
    schema: {
      type: 'object',
      required: ['file'],
      properties: { file: { type: 'string', format: 'binary' } },
    },
  })
  async upload(@WorkspaceId() workspaceId: string, @Req() request: Request): Promise<MediaResponse> {
    const { file, described } = await withoutTurn(() =>
      receiveUpload(
        request,
        this.config.media.maxBytes,
        (bytes) => this.media.receive(bytes),
        (received) => this.media.discard(received),
      ),
    );
    return toMediaResponse(await this.media.store(workspaceId, file, described, 'upload'));
  }

  /** Lists uploaded, downloaded and received media, newest first. */
  @Allow('viewer')
  @Fails(MediaStorageUnavailable)
  @Paged(MediaResponse)
  @Get()
  async list(
    @WorkspaceId() workspaceId: string,
    @Query() query: ListMediaQuery,
  ): Promise<Page<MediaResponse>> {
    return toPage(await this.media.list(workspaceId, query), query.limit, toMediaResponse);
  }

  @ApiOperation({ summary: 'The headers of GET, without the file.' })
  @Allow('viewer')
  @Fails(MediaNotFound, RangeNotSatisfiable, MediaBlobMissing, MediaStorageUnavailable)
  @Head(':id')
  async head(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Req() request: Request,
    @Res() response: Response,
  ): Promise<void> {
    await this.get(workspaceId, id, request, response);
  }

  /** Downloads the file as an attachment. `Range` requests a part, `If-None-Match` only a changed file. */
  @Allow('viewer')
  @Fails(MediaNotFound, RangeNotSatisfiable, MediaBlobMissing, MediaStorageUnavailable)
  @Get(':id')
  @ApiProduces('*/*')
  @ApiOkResponse({ description: 'The file.', schema: { type: 'string', format: 'binary' } })
  async get(
    @WorkspaceId() workspaceId: string,
    @Param('id', UuidPipe) id: string,
    @Req() request: Request,
    @Res() response: Response,
  ): Promise<void> {
    const media = await this.media.get(workspaceId, id);
    await sendMedia(request, response, media, (range) => this.media.open(media, range));
  }

  /** Deletes a file. Messages that were sent with it stay as they are. */
  @Allow('sender')
  @Fails(MediaNotFound, MediaInUse, MediaStorageUnavailable)
  @Delete(':id')
  @HttpCode(204)
  async delete(@WorkspaceId() workspaceId: string, @Param('id', UuidPipe) id: string): Promise<void> {
    await this.media.delete(workspaceId, id);
  }
}
