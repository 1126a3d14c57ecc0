import { Injectable } from '@nestjs/common';

/**
 * The messages that each sender has sent and has no ack for. A sender that sends one message at a time, as a lane of
 * Flotilla does, never has two here.
 */
@Injectable()
export class InFlight {
  /** The most messages that one sender had here at the same time. */
  max = 0;
  private readonly ids = new Map<string, Set<string>>();

  /** A sender sent a message; a repetition counts once. */
  begin(sender: string, whatsappId: string): void {
    const ids = this.ids.get(sender) ?? new Set();
    this.ids.set(sender, ids.add(whatsappId));
    this.max = Math.max(this.max, ids.size);
  }

  /** The sender got an ack or a refusal. */
  end(sender: string, whatsappId: string): void {
    this.ids.get(sender)?.delete(whatsappId);
  }

  /** Forgets everything. */
  clear(): void {
    this.max = 0;
    this.ids.clear();
  }
}
