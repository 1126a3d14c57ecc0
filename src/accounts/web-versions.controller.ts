import { Body, Controller, Get, Put } from '@nestjs/common';
import { Fails } from '../platform/http/documentation.js';
import { Allow } from '../workspaces/auth.guard.js';
import { WebVersionNotKept, WebVersionPolicyService } from './web-version-policy.service.js';
import { WebVersionPolicyDto, WebVersionPolicyResponse, WebVersionsResponse } from './web-versions.dto.js';
import { WebVersionsService } from './web-versions.service.js';

/** The versions of WhatsApp Web, and which version accounts get. */
@Allow('admin')
@Controller('admin/web-versions')
export class WebVersionsController {
  constructor(
    private readonly versions: WebVersionsService,
    private readonly policy: WebVersionPolicyService,
  ) {}

  /** Lists the versions of WhatsApp Web that accounts have loaded, the newest first. */
  @Get()
  async list(): Promise<WebVersionsResponse> {
    return { items: await this.versions.list(), nextCursor: null };
  }

  /** Shows which version accounts get. */
  @Get('policy')
  async getPolicy(): Promise<WebVersionPolicyResponse> {
    return this.policy.get();
  }

  /**
   * Replaces the policy. An account that has another version gets its page at the next start of its browser. Instances restart such
   * accounts one after the other, and accounts whose page is broken at once.
   */
  @Fails(WebVersionNotKept)
  @Put('policy')
  async setPolicy(@Body() body: WebVersionPolicyDto): Promise<WebVersionPolicyResponse> {
    return this.policy.set(body);
  }
}
