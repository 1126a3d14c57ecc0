import type { JobHint } from '../queues/queues.service.js';
import { queueOf } from './message.entity.js';

/** The job that says: this message is the first of its account's lane. */
export function headJob(messageId: string, priority: number): JobHint {
  return { queue: queueOf(priority), id: `message-${messageId}`, data: { id: messageId } };
}
