/** An event with the number under which the browser confirms it. */
export interface QueuedEvent<Event> {
  n: number;
  event: Event;
}

/** An event for one browser, to be sent `delayMs` later. */
export interface AddressedEvent<Event> {
  credential: string;
  event: Event;
  delayMs: number;
}
