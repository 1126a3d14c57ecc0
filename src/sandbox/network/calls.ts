import { randomBytes } from 'node:crypto';
import { Injectable, NotFoundException } from '@nestjs/common';

/** A call from one phone to another, or to the members of a group. */
export interface Call {
  id: string;
  from: string;
  /** A number, or the address of a group. */
  to: string;
  /** The numbers that ring. */
  called: string[];
  video: boolean;
  at: string;
  /** A call of a group rings until its caller ends it. */
  state: 'ringing' | 'answered' | 'rejected' | 'ended';
  /** The numbers that have rejected it, on the phone or in a browser. */
  rejectedBy: string[];
}

const MAX_CALLS = 1000;

/** The latest calls. They do not survive a restart. */
@Injectable()
export class Calls {
  private readonly calls = new Map<string, Call>();

  /** Begins a call. @param at when, by default now */
  begin({ from, to, called, video }: Pick<Call, 'from' | 'to' | 'called' | 'video'>, at = new Date()): Call {
    const id = randomBytes(16).toString('hex').toUpperCase();
    const common = { id, from, to, called, video, at: at.toISOString() };
    return this.save({ ...common, state: 'ringing', rejectedBy: [] });
  }

  /**
   * A called phone answers a call that rings, or rejects it; or the caller ends it. A call that has ended stays as it is.
   * @throws NotFoundException
   */
  change(id: string, phone: string, change: 'answered' | 'rejected' | 'ended'): Call {
    const call = this.get(id, phone);
    if (call.state !== 'ringing') return call;
    if (change !== 'rejected') return this.save({ ...call, state: change });
    const rejectedBy = [...new Set([...call.rejectedBy, phone])];
    const isOver = rejectedBy.length === call.called.length;
    return this.save({ ...call, rejectedBy, state: isOver ? 'rejected' : 'ringing' });
  }

  /** @throws NotFoundException if the phone has no such call */
  get(id: string, phone: string): Call {
    const call = this.calls.get(id);
    if (!call || (call.from !== phone && !call.called.includes(phone)))
      throw new NotFoundException(`${phone} has no call ${id}: GET /calls shows all ids.`);
    return call;
  }

  /** The calls, oldest first. */
  list(): Call[] {
    return [...this.calls.values()];
  }

  private save(call: Call): Call {
    this.calls.set(call.id, call);
    if (this.calls.size > MAX_CALLS) this.calls.delete(this.calls.keys().next().value!);
    return call;
  }
}
