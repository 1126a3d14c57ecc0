import { Controller, Get } from '@nestjs/common';
import { type CallLink, CallLinks } from '../network/call-links.js';

/** The links to calls that linked browsers have created. */
@Controller('call-links')
export class SandboxCallLinksController {
  constructor(private readonly links: CallLinks) {}

  @Get()
  list(): { items: readonly CallLink[] } {
    return { items: this.links.list() };
  }
}
