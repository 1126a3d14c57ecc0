/**
 * The messages that each sender has handed over and knows no ack of. A sender that keeps to one at a time, as a lane of
 * Flotilla does, is never seen here with two.
 */
export class InFlight {
  /** The most that one sender had at the same time. */
  max = 0;
  private readonly ids = new Map<string, Set<string>>();

  /** A sender handed a message over; the same one again is still one. */
  begin(sender: string, whatsappId: string): void {
    const ids = this.ids.get(sender) ?? new Set();
    this.ids.set(sender, ids.add(whatsappId));
    this.max = Math.max(this.max, ids.size);
  }

  /** The sender was told what became of it. */
  end(sender: string, whatsappId: string): void {
    this.ids.get(sender)?.delete(whatsappId);
  }

  /** Forgets everything. */
  clear(): void {
    this.max = 0;
    this.ids.clear();
  }
}
