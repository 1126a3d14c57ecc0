import { ValidateBy, type ValidationOptions } from 'class-validator';

/** Every type that the log of events may hold, and what it tells of. */
export const eventTypes = {
  'account.status': 'an account has another status, or another reason for it',
  'account.qr': 'there is a new QR code to link an account by',
  'account.pairing_code': 'there is a new code to type into the phone to link an account by',
  'account.cold_paused':
    'an account writes to no strangers for a while, as WhatsApp has refused some messages',
  'account.cold_resumed': 'it does again',
  'message.received': 'somebody has written to an account',
  'message.scheduled': 'a message was accepted for later',
  'message.queued': 'a message was accepted',
  'message.sent': 'WhatsApp has it',
  'message.delivered': "the recipient's phone has it",
  'message.read': 'the recipient has opened the chat',
  'message.played': 'the recipient has played the voice message',
  'message.failed': 'it was not sent, and is not tried again',
  'message.unknown': 'nobody can tell whether it was sent',
  'message.cancelled': 'it was cancelled before it was sent',
  'message.expired': 'its time was over before it was sent',
  'message.edited': 'the text was changed, by whoever wrote it; with `previousText`',
  'message.revoked': 'it was deleted for everyone',
  'message.reaction': 'somebody has reacted, or taken a reaction back',
  'message.poll_vote': 'somebody has voted in a poll, or taken a vote back',
  'group.participants': 'somebody has joined or left a group, or is its admin now or no more',
  'group.updated': 'the subject, description, picture or settings of a group have changed',
  'webhook.disabled': 'a webhook was disabled, as its endpoint is gone or has failed for days',
  'campaign.status': 'a campaign has another status (campaigns are not built yet)',
  'campaign.progress': 'how far a campaign has got (campaigns are not built yet)',
  'instance.status': 'an instance has another status; of no workspace: only for the admin',
} as const;

export type EventType = keyof typeof eventTypes;

/** Events that hold the code by which an account is linked: whoever sees one can take the account. */
export const linkingEvents: readonly string[] = [
  'account.qr',
  'account.pairing_code',
] satisfies readonly EventType[];

/** One type, the beginning of some before a `*`, or `*`. One that means no type at all is a mistake: its owner would wait for ever. */
export function IsEventPattern(options: ValidationOptions = {}): PropertyDecorator {
  return ValidateBy(
    {
      name: 'isEventPattern',
      validator: {
        validate: isEventPattern,
        defaultMessage: () => 'must be types of events such as message.sent, or message.*, or *',
      },
    },
    options,
  );
}

/** Several of them, with commas between them. */
export function AreEventPatterns(): PropertyDecorator {
  return ValidateBy({
    name: 'areEventPatterns',
    validator: {
      validate: (value) => typeof value === 'string' && value.split(',').every(isEventPattern),
      defaultMessage: () =>
        'must be types of events with commas between them, such as message.*,account.status',
    },
  });
}

function isEventPattern(value: unknown): boolean {
  return typeof value === 'string' && Object.keys(eventTypes).some((type) => matchesPattern(type, value));
}

/** Whether a type is what a pattern means: the type itself, or any that begins with what stands before its `*`. */
export function matchesPattern(type: string, pattern: string): boolean {
  return pattern.endsWith('*') ? type.startsWith(pattern.slice(0, -1)) : type === pattern;
}
