import { Body, Controller, Delete, Get, Param, Post } from '@nestjs/common';
import { type Call, Calls } from '../network/calls.js';
import { PhoneRegistry } from '../network/phones.js';
import { OnlineBrowsers } from '../wire/online-browsers.js';
import { CallDto } from './calls.dto.js';

/** The calls of the simulated phones: a caller acts as the owner of a phone. */
@Controller()
export class SandboxCallsController {
  constructor(
    private readonly phones: PhoneRegistry,
    private readonly calls: Calls,
    private readonly browsers: OnlineBrowsers,
  ) {}

  /** The owner calls another phone. Its linked browsers ring, unless it has blocked the caller. */
  @Post('phones/:phone/calls')
  call(@Param('phone') number: string, @Body() { to, video }: CallDto): Call {
    const from = this.phones.require(number);
    const call = this.calls.begin(from.phone, this.phones.require(to).phone, video);
    const { id } = call;
    const ring = { id, from: from.phone, video, hidden: from.hidesNumber ?? false };
    if (!this.phones.hasBlocked(call.to, call.from)) this.browsers.sendTo(call.to, { t: 'call', call: ring });
    return call;
  }

  /** The owner ends a call, or rejects it. */
  @Delete('phones/:phone/calls/:id')
  end(@Param('phone') number: string, @Param('id') id: string): Call {
    const call = this.calls.end(id, this.phones.require(number).phone);
    this.browsers.sendTo(call.to, { t: 'call-ended', id });
    return call;
  }

  @Get('calls')
  list(): { items: Call[] } {
    return { items: this.calls.list() };
  }
}
