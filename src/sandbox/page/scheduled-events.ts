import type { ScheduledEvent } from '../wire/frames.js';
import type { Actions, Change } from './actions.js';
import { eventAttributesOf } from './event-content.js';
import type { Link } from './link.js';
import type { Msg } from './models.js';
import type { MessageRow } from './store.js';

/** What whatsapp-web.js gives to change an event. */
interface EventEdit extends Pick<ScheduledEvent, 'name' | 'description' | 'startTime' | 'location'> {
  endTime?: number | null;
  callType?: 'video' | 'voice' | 'none';
  isEventCanceled: boolean;
}

/** The modules of WhatsApp Web about scheduled events. */
export function scheduledEventModules(link: Link, actions: Actions) {
  const createCallLink = (startTime: number, kind: 'video' | 'voice') =>
    link.ask('call-link', { startTime, kind });
  return {
    WAWebGenerateEventCallLink: { createEventCallLink: createCallLink },
    WAWebSendEventEditMsgAction: {
      sendEventEditMessage: async (
        { name, description, startTime, endTime, location, callType, isEventCanceled }: EventEdit,
        msg: Msg,
      ): Promise<void> => {
        const hasCall = callType !== undefined && callType !== 'none';
        const joinLink = hasCall ? await createCallLink(startTime, callType) : undefined;
        const event: ScheduledEvent = {
          name,
          ...(description ? { description } : {}),
          startTime,
          ...(endTime ? { endTime } : {}),
          ...(location ? { location } : {}),
          ...(joinLink ? { joinLink } : {}),
          canceled: isEventCanceled,
        };
        await actions.act('reschedule', msg, JSON.stringify(event));
      },
    },
    WAWebSendEventResponseMsgAction: {
      sendEventResponseMsg: (response: number, msg: Msg) => actions.act('rsvp', msg, String(response)),
    },
  };
}

/** @returns whether the row changed */
export function changeEvent(row: MessageRow, msg: Msg | undefined, { text, at }: Change): boolean {
  if (!row.x?.event || (row.j ?? 0) >= at) return false;
  const event = JSON.parse(text) as ScheduledEvent;
  row.x = { ...row.x, event };
  row.j = at;
  msg?.set(eventAttributesOf(event));
  return true;
}

/** @returns whether the row changed */
export function changeResponse(row: MessageRow, _msg: Msg | undefined, { by, text, at }: Change): boolean {
  row.h ??= {};
  if ((row.h[by]?.t ?? 0) >= at) return false;
  row.h[by] = { c: Number(text), t: at };
  return true;
}
