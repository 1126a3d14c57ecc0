/**
 * WhatsApp's types of notices that WhatsApp Web shows between messages, and of its internal messages. No person wrote them. A
 * `ciphertext` is a message that the page cannot decrypt yet: it gets its real type when the page can.
 */
export const noticeTypes: readonly string[] = [
  'broadcast_notification',
  'call_log',
  'ciphertext',
  'debug',
  'e2e_notification',
  'gp2',
  'group_notification',
  'keep_in_chat',
  'newsletter_notification',
  'notification',
  'notification_template',
  'pin_in_chat',
  'pinned_message',
  'poll_update',
  'protocol',
  'reaction',
  'revoked',
];
