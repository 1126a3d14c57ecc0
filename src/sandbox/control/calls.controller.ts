import { Body, Controller, Delete, Get, HttpCode, Param, Post } from '@nestjs/common';
import { type Call, Calls } from '../network/calls.js';
import { PhoneRegistry } from '../network/phones.js';
import { Ringing } from '../wire/ringing.js';
import { CallDto } from './calls.dto.js';

/** The calls of the simulated phones: a caller acts as the owner of a phone. */
@Controller()
export class SandboxCallsController {
  constructor(
    private readonly phones: PhoneRegistry,
    private readonly calls: Calls,
    private readonly ringing: Ringing,
  ) {}

  /** The owner calls another phone or a group. The linked browsers of those who have not blocked the caller ring. */
  @Post('phones/:phone/calls')
  call(@Param('phone') number: string, @Body() { to, video, at }: CallDto): Call {
    return this.ringing.call(
      this.phones.require(number).phone,
      to,
      video,
      at === undefined ? undefined : new Date(at),
    );
  }

  /** The owner of a called phone answers on the phone. */
  @Post('phones/:phone/calls/:id/answer')
  @HttpCode(200)
  answer(@Param('phone') number: string, @Param('id') id: string): Call {
    return this.ringing.change(id, this.phones.require(number).phone, 'answered');
  }

  /** The caller ends the call, or the owner of a called phone rejects it. */
  @Delete('phones/:phone/calls/:id')
  end(@Param('phone') number: string, @Param('id') id: string): Call {
    return this.ringing.change(id, this.phones.require(number).phone, 'over');
  }

  @Get('calls')
  list(): { items: Call[] } {
    return { items: this.calls.list() };
  }
}
