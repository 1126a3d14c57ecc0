import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { whatsappIdOf } from '../../src/messages/message.entity.js';
import { parseRecipient } from '../../src/messages/recipient.js';

describe('a recipient', () => {
  it.each([
    ['+62 812-3456-7890', '6281234567890@c.us', '6281234567890'],
    ['006281234567890', '6281234567890@c.us', '6281234567890'],
    ['6281234567890', '6281234567890@c.us', '6281234567890'],
    ['+1 (202) 555-0108', '12025550108@c.us', '12025550108'],
    ['6281234567890@c.us', '6281234567890@c.us', '6281234567890'],
    ['123456789012345@lid', '123456789012345@lid', '123456789012345@lid'],
    ['120363012345678901@g.us', '120363012345678901@g.us', '120363012345678901@g.us'],
  ])('%s is %s', (to, chatId, address) => {
    expect(parseRecipient(to)).toEqual({ chatId, address });
  });

  it.each([
    '',
    'x',
    '12',
    '0812345',
    '+',
    '+62',
    '@c.us',
    '62812@s.whatsapp.net',
    '+62 812 3456 7890 ext 5',
    '++6281234567890',
  ])('%j is not a recipient', (to) => {
    expect(parseRecipient(to)).toBeNull();
  });

  it('consists only of digits and a known ending, for any input', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 60 }), (to) => {
        const recipient = parseRecipient(to);
        if (recipient) expect(recipient.chatId).toMatch(/^\d+(-\d+)?@(c\.us|lid|g\.us)$/);
      }),
    );
  });
});

describe('the WhatsApp id of a message', () => {
  it('is derived from its own id, looks like an id of WhatsApp Web, and differs between messages', () => {
    fc.assert(
      fc.property(fc.uuid(), fc.uuid(), (one, other) => {
        expect(whatsappIdOf(one)).toMatch(/^3EB0[0-9A-F]{18}$/);
        expect(whatsappIdOf(one)).toBe(whatsappIdOf(one));
        if (one !== other) expect(whatsappIdOf(one)).not.toBe(whatsappIdOf(other));
      }),
    );
  });
});
