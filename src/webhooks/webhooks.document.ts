import type { OpenAPIObject } from '@nestjs/swagger';
import { eventTypes } from '../events/event-types.js';

const header = (name: string, description: string, example: string) => ({
  name,
  in: 'header' as const,
  required: true,
  description,
  schema: { type: 'string' as const },
  example,
});

/** The requests that Flotilla posts to an endpoint, in the form of OpenAPI 3.1. */
export const webhooksDocument: NonNullable<OpenAPIObject['webhooks']> = {
  event: {
    post: {
      operationId: 'webhook.event',
      summary: 'Flotilla posts an event to the URL of a webhook.',
      description: [
        'Signed by the Standard Webhooks scheme. At least once, in order for each account, with up to 8 attempts over more than a day.',
        ...Object.entries(eventTypes).map(([type, meaning]) => `- \`${type}\`: ${meaning}`),
        '- `webhook.test`: somebody has called `POST /webhooks/{id}/test`. This event is not in the log, and its id is not a place in the log.',
      ].join('\n'),
      security: [],
      parameters: [
        header(
          'Webhook-Id',
          'The place of the event in the log: the `id` of the body. It is the same in every attempt.',
          '7421-88',
        ),
        header('Webhook-Timestamp', 'The time of this attempt, in seconds since 1970.', '1795600802'),
        header(
          'Webhook-Signature',
          'One or two signatures, separated by a space. Each is `v1,` + base64 of HMAC-SHA256 over `id.timestamp.body`.',
          'v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=',
        ),
      ],
      requestBody: {
        required: true,
        content: { 'application/json': { schema: { $ref: '#/components/schemas/EventResponse' } } },
      },
      responses: {
        '2XX': { description: 'You have the event. Only the status of the answer counts.' },
        '410': { description: 'You want no more events: Flotilla disables the webhook.' },
        default: { description: 'Flotilla tries again later. It honours `Retry-After` up to two hours.' },
      },
    },
  },
};
