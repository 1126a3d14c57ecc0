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

/** What Flotilla posts to an endpoint, as OpenAPI 3.1 has it. */
export const webhooksDocument: NonNullable<OpenAPIObject['webhooks']> = {
  event: {
    post: {
      operationId: 'webhook.event',
      summary: 'What happens is posted to the URL of a webhook.',
      description: [
        'Signed by the Standard Webhooks scheme; at least once, in order for each account, 8 times over more than a day.',
        ...Object.entries(eventTypes).map(([type, meaning]) => `- \`${type}\`: ${meaning}`),
        '- `webhook.test`: somebody has called `POST /webhooks/{id}/test`; it is not in the log, and its id is no place there',
      ].join('\n'),
      security: [],
      parameters: [
        header(
          'Webhook-Id',
          'The same in every attempt: where the event stands in the log, the `id` of the body.',
          '7421-88',
        ),
        header('Webhook-Timestamp', 'When it is posted, in seconds since 1970.', '1795600802'),
        header(
          'Webhook-Signature',
          'One or two, with a space between them: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`.',
          'v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=',
        ),
      ],
      requestBody: {
        required: true,
        content: { 'application/json': { schema: { $ref: '#/components/schemas/EventResponse' } } },
      },
      responses: {
        '2XX': { description: 'You have it. Nothing of the answer but its status matters.' },
        '410': { description: 'You want no more: the webhook is disabled.' },
        default: { description: 'It is tried again later; `Retry-After` is honoured up to two hours.' },
      },
    },
  },
};
