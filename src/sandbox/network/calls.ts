import { randomBytes } from 'node:crypto';
import { Injectable, NotFoundException } from '@nestjs/common';

/** A call from one phone to another. */
export interface Call {
  id: string;
  from: string;
  to: string;
  video: boolean;
  at: string;
  state: 'ringing' | 'rejected' | 'ended';
}

const MAX_CALLS = 1000;

/** The latest calls. They do not survive a restart. */
@Injectable()
export class Calls {
  private readonly calls = new Map<string, Call>();

  /** Begins a call. */
  begin(from: string, to: string, video: boolean): Call {
    const id = randomBytes(16).toString('hex').toUpperCase();
    const call: Call = { id, from, to, video, at: new Date().toISOString(), state: 'ringing' };
    this.calls.set(id, call);
    if (this.calls.size > MAX_CALLS) this.calls.delete(this.calls.keys().next().value!);
    return call;
  }

  /**
   * Ends a call that rings; a call that has ended stays as it is.
   * @param phone the phone that does it: the caller ends the call, and the called phone rejects it
   * @throws NotFoundException
   */
  end(id: string, phone: string): Call {
    const call = this.calls.get(id);
    if (!call || (call.from !== phone && call.to !== phone))
      throw new NotFoundException(`${phone} has no call ${id}: GET /calls shows all ids.`);
    if (call.state !== 'ringing') return call;
    const next: Call = { ...call, state: call.to === phone ? 'rejected' : 'ended' };
    this.calls.set(id, next);
    return next;
  }

  /** The calls, oldest first. */
  list(): Call[] {
    return [...this.calls.values()];
  }
}
