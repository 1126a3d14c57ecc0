import { ValidateBy, type ValidationOptions } from 'class-validator';

/** Every event type of the log, and its meaning. */
export const eventTypes = {
  'account.status': 'an account has another status, or another reason for it',
  'account.qr': 'there is a new QR code that links an account',
  'account.pairing_code': 'there is a new code to type into the phone, which links an account',
  'account.cold_paused':
    'an account writes to no strangers for a while, because WhatsApp has refused messages',
  'account.cold_resumed': 'the account writes to strangers again',
  'account.web_incompatible':
    'WhatsApp Web has changed: the page of an account lacks what sending needs, and its messages wait',
  'account.other_number':
    'a phone with another number has linked an account, and was refused; with `otherPhoneNumber`',
  'account.number_changed':
    'an account has another number, as its connect has allowed; with `previousPhoneNumber`',
  'account.presence': 'somebody in a watched chat has gone online or offline, types or records',
  'message.received': 'somebody has written to an account',
  'message.sent_elsewhere': "the account's owner has written a message on the phone or another linked device",
  'message.scheduled': 'a message was accepted for later',
  'message.queued': 'a message was accepted',
  'message.sent': 'WhatsApp has it',
  'message.delivered': "the recipient's phone has it",
  'message.read': 'the recipient has opened the chat',
  'message.played': 'the recipient has played the voice message',
  'message.failed': 'it was not sent, and Flotilla does not try again',
  'message.unknown': 'nobody can tell whether it was sent',
  'message.cancelled': 'it was cancelled before it was sent',
  'message.expired': 'its `expiresAt` passed before it was sent',
  'message.edited': 'the author has changed the text; with `previousText`',
  'message.revoked': 'it was deleted for everyone',
  'message.reaction': 'somebody has reacted, or taken a reaction back',
  'message.poll_vote': 'somebody has voted in a poll, or taken a vote back',
  'story.received': 'a story of a contact has come, and the account wants stories (`receive.stories`)',
  'channel.received': 'a post of a channel has come, and the account wants them (`receive.channels`)',
  'call.received': 'somebody calls an account',
  'call.missed': 'nobody has taken a call, or it was rejected on another device of the account',
  'call.rejected': 'Flotilla has rejected a call, because the account has `rejectCalls`',
  'group.participants': 'somebody has joined or left a group, or has become or ceased to be its admin',
  'group.updated': 'the subject, description, picture or settings of a group have changed',
  'webhook.disabled': 'a webhook was disabled, because its endpoint is gone or has failed for days',
  'campaign.status': 'a campaign has another status',
  'campaign.progress': 'how far a campaign is: how many of its recipients have each status',
  'suppression.added':
    'a person gets no campaigns any more: somebody has said so, or the person has opted out',
  'suppression.removed': 'a person may get campaigns again',
  'web_version.status':
    'a version of WhatsApp Web was found, passed its trial or was refused; it belongs to no workspace, so only the admin sees it',
  'instance.status': 'an instance has another status; it belongs to no workspace, so only the admin sees it',
} as const;

export type EventType = keyof typeof eventTypes;

/** Events that hold a code that links an account: anybody who sees such a code can take the account over. */
export const linkingEvents: readonly string[] = [
  'account.qr',
  'account.pairing_code',
] satisfies readonly EventType[];

/**
 * An event type, or a beginning of event types followed by `*`. A pattern that matches no type is a mistake: its owner would
 * wait for ever.
 */
export function IsEventPattern(options: ValidationOptions = {}): PropertyDecorator {
  return ValidateBy(
    {
      name: 'isEventPattern',
      validator: {
        validate: isEventPattern,
        defaultMessage: () =>
          'must be an event type such as message.sent, or a pattern such as message.* or *',
      },
    },
    options,
  );
}

/** Several event types or patterns, separated by commas. */
export function AreEventPatterns(): PropertyDecorator {
  return ValidateBy({
    name: 'areEventPatterns',
    validator: {
      validate: (value) => typeof value === 'string' && value.split(',').every(isEventPattern),
      defaultMessage: () =>
        'must be event types or patterns separated by commas, such as message.*,account.status',
    },
  });
}

function isEventPattern(value: unknown): boolean {
  return typeof value === 'string' && Object.keys(eventTypes).some((type) => matchesPattern(type, value));
}

/** Whether a pattern matches a type: the pattern is the type itself, or the type begins with the text before the `*`. */
export function matchesPattern(type: string, pattern: string): boolean {
  return pattern.endsWith('*') ? type.startsWith(pattern.slice(0, -1)) : type === pattern;
}
