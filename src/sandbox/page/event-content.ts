import type { ScheduledEvent } from '../wire/frames.js';

/** A scheduled event as attributes of WhatsApp Web. Times are seconds since 1970. */
export interface EventAttributes {
  eventName: string;
  eventDescription?: string | undefined;
  eventStartTime: number;
  eventEndTime?: number | null | undefined;
  eventLocation?: { degreesLatitude: number; degreesLongitude: number; name: string } | undefined;
  eventJoinLink?: string | null | undefined;
  isEventCanceled: boolean;
}

/** A scheduled event as the wire has it. */
export function eventOf({
  eventName,
  eventDescription,
  eventStartTime,
  eventEndTime,
  eventLocation,
  eventJoinLink,
  isEventCanceled,
}: EventAttributes): ScheduledEvent {
  return {
    name: eventName,
    ...(eventDescription ? { description: eventDescription } : {}),
    startTime: eventStartTime,
    ...(eventEndTime ? { endTime: eventEndTime } : {}),
    ...(eventLocation ? { location: eventLocation.name } : {}),
    ...(eventJoinLink ? { joinLink: eventJoinLink } : {}),
    canceled: isEventCanceled,
  };
}

/** A scheduled event as attributes of its model. */
export function eventAttributesOf({
  name,
  description,
  startTime,
  endTime,
  location,
  joinLink,
  canceled,
}: ScheduledEvent): EventAttributes {
  return {
    eventName: name,
    eventDescription: description,
    eventStartTime: startTime,
    eventEndTime: endTime,
    eventLocation: location ? { degreesLatitude: 0, degreesLongitude: 0, name: location } : undefined,
    eventJoinLink: joinLink,
    isEventCanceled: canceled,
  };
}
