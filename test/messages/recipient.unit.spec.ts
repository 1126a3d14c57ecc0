import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { whatsappIdOf } from '../../src/messages/message.entity.js';
import { addressOf } from '../../src/messages/persons.js';
import { parseDestination, parseRecipient, recipientHint } from '../../src/messages/recipient.js';
import { serveRequest } from '../../src/platform/context.js';
import { isSameNumber, parsePhoneNumber, setDefaultCountry } from '../../src/platform/http/phone-number.js';

/** Serves one request of a workspace with this default country. */
function inRequest<Result>(country: string | null, work: () => Result): Result {
  let result!: Result;
  serveRequest('r', () => {
    setDefaultCountry(country);
    result = work();
  });
  return result;
}

describe('a recipient', () => {
  it.each([
    ['+62 812-3456-7890', '6281234567890'],
    ['006281234567890', '6281234567890'],
    ['6281234567890', '6281234567890'],
    ['(+62) 812.3456.7890', '6281234567890'],
    ['+62 (0)812-3456-7890', '6281234567890'],
    ['+1 (202) 555-0108', '12025550108'],
    ['6281234567890@c.us', '6281234567890'],
    ['6281234567890@s.whatsapp.net', '6281234567890'],
    ['6281234567890:17@s.whatsapp.net', '6281234567890'],
    ['6281234567890.0:17@S.WhatsApp.net', '6281234567890'],
    // WhatsApp keeps these forms, although the countries have changed them.
    ['5215512345678', '5215512345678'],
    ['+52 1 55 1234 5678', '5215512345678'],
    ['525512345678', '525512345678'],
    ['+54 9 11 2345-6789', '5491123456789'],
    ['+54 11 2345-6789', '541123456789'],
    ['+55 11 98765-4321', '5511987654321'],
    ['+55 11 8765-4321', '551187654321'],
    ['+225 07 12 34 56', '22507123456'],
    ['+225 07 07 12 34 56', '2250707123456'],
    ['+229 97 12 34 56', '22997123456'],
    ['+229 01 97 12 34 56', '2290197123456'],
    // Digits and signs of other scripts, and marks that nobody sees.
    ['٠٠٦٢٨١٢٣٤٥٦٧٨٩٠', '6281234567890'],
    ['+۶۲۸۱۲۳۴۵۶۷۸۹۰', '6281234567890'],
    ['+६२ ८१२ ३४५६ ७८९०', '6281234567890'],
    ['＋６２　８１２－３４５６－７８９０', '6281234567890'],
    ['\u202a+62\u00a0812\u20113456\u20137890\u202c', '6281234567890'],
    ['\ufeff+62812\u00ad3456\u200b7890\u200e', '6281234567890'],
    ['+62 812 3456 7890\n', '6281234567890'],
  ])('%j is the number %s', (to, digits) => {
    expect(parseRecipient(to)).toEqual({ chatId: `${digits}@c.us`, address: digits });
  });

  it.each([
    ['123456789012345@lid', '123456789012345@lid'],
    ['123456789012345:3@lid', '123456789012345@lid'],
    ['\u200e123456789012345@lid', '123456789012345@lid'],
    ['120363012345678901@g.us', '120363012345678901@g.us'],
    ['6281234567890-1600000000@g.us', '6281234567890-1600000000@g.us'],
  ])('%j is the chat %s', (to, chatId) => {
    expect(parseRecipient(to)).toEqual({ chatId, address: chatId });
  });

  it.each([
    '',
    'x',
    '12',
    '0812345',
    '081234567890',
    '+',
    '+62',
    '@c.us',
    '@lid',
    '62812@newsletter',
    'status@broadcast',
    '+62 812 3456 7890 ext 5',
    '+62 812 3456 7890 / 91',
    '++6281234567890',
    '62+81234567890',
    '6281234567890'.repeat(6),
  ])('%j is not a recipient', (to) => {
    expect(parseRecipient(to)).toBeNull();
  });

  it('consists only of digits and a known ending, for any input', () => {
    const signs = [
      ...'0123456789٠٩०९０９+( ).-@',
      '\u200e',
      '\u00a0',
      '@c.us',
      '@lid',
      '@g.us',
      '@s.whatsapp.net',
    ];
    const code = fc.integer({ min: 0, max: 0x10ffff });
    const anything = fc.array(code, { maxLength: 80 }).map((codes) => String.fromCodePoint(...codes));
    const written = fc.array(fc.constantFrom(...signs), { maxLength: 30 }).map((some) => some.join(''));
    fc.assert(
      fc.property(fc.oneof(fc.string({ maxLength: 80 }), anything, written), (to) => {
        const recipient = parseRecipient(to);
        if (recipient) expect(recipient.chatId).toMatch(/^\d+(-\d+)?@(c\.us|lid|g\.us)$/);
      }),
    );
  });

  it('is the same however its number is written', () => {
    const numbers = fc.constantFrom(
      '6281234567890',
      '12025550108',
      '5215512345678',
      '22507123456',
      '4915112345678',
    );
    const zeros = [0x30, 0x660, 0x6f0, 0x966, 0x9e6, 0xe50, 0xff10, 0x1d7ce, 0x1e950];
    const between = ['', ' ', '-', '\u00a0', '\u200e', '\u00ad', '\u2011', '.'];
    const forms = fc.record({
      zero: fc.constantFrom(...zeros),
      between: fc.array(fc.constantFrom(...between), { minLength: 15, maxLength: 15 }),
      before: fc.constantFrom('', '+', '00', '\u202a+', ' +'),
      after: fc.constantFrom('', '\u202c', '\n'),
    });
    fc.assert(
      fc.property(numbers, forms, (number, { zero, between: marks, before, after }) => {
        const written = [...number].map(
          (digit, at) => marks[at] + String.fromCodePoint(zero + Number(digit)),
        );
        expect(parseRecipient(before + written.join('') + after)?.address).toBe(number);
      }),
    );
  });

  it('can be named by every chat id, and by every address of a number that libraries call possible', () => {
    const user = fc.stringMatching(/^[1-9]\d{4,19}$/);
    fc.assert(
      fc.property(user, fc.constantFrom('c.us', 'lid', 'g.us'), (user, server) => {
        const chatId = `${user}@${server}`;
        const address = addressOf(chatId);
        expect(parseRecipient(chatId)).toEqual({ chatId, address });
        const recipient = parseRecipient(address);
        if (recipient) expect(parseRecipient(recipient.address)).toEqual(recipient);
      }),
    );
  });
});

describe('a number that begins with 0 instead of a country code', () => {
  it.each([
    ['ID', '0812-3456-7890', '6281234567890'],
    ['ID', '٠٨١٢٣٤٥٦٧٨٩٠', '6281234567890'],
    ['DE', '0151 12345678', '4915112345678'],
    ['AR', '011 15 2345-6789', '5491123456789'],
    // Italy keeps the 0.
    ['IT', '06 1234 5678', '390612345678'],
  ])('is a number of the default country: %s %s', (country, to, digits) => {
    expect(inRequest(country, () => parseRecipient(to))?.address).toBe(digits);
    // Another request, or work for Flotilla itself, has no such country.
    expect(inRequest(null, () => parseRecipient(to))).toBeNull();
    expect(parseRecipient(to)).toBeNull();
  });

  it('does not change a number with a country code', () => {
    for (const to of ['+6281234567890', '006281234567890', '6281234567890', '6281234567890@c.us'])
      expect(inRequest('DE', () => parseRecipient(to))?.address).toBe('6281234567890');
  });

  it('is refused with the cure', () => {
    expect(inRequest(null, () => recipientHint('0812-3456-7890'))).toMatch(/no country code.*defaultCountry/);
    expect(inRequest('ID', () => recipientHint('01'.repeat(12)))).toMatch(/defaultCountry/);
    expect(recipientHint('x')).toBe(
      'must be a phone number with country code, for example +6281234567890, or a chat id that ends in @c.us, @lid or @g.us',
    );
  });

  it('has the country of its own request, also while other requests are served', async () => {
    const served = ['ID', 'DE', null].map(
      (country) =>
        new Promise((resolve) =>
          serveRequest('r', () => {
            setDefaultCountry(country);
            setImmediate(() => resolve(parsePhoneNumber('0812345678')));
          }),
        ),
    );
    expect(await Promise.all(served)).toEqual(['62812345678', '49812345678', null]);
  });
});

describe('a destination', () => {
  it.each([
    ['status', 'status@broadcast'],
    [' Status ', 'status@broadcast'],
    ['status@broadcast', 'status@broadcast'],
    ['120363012345678901@newsletter', '120363012345678901@newsletter'],
    ['120363012345678901@Newsletter', '120363012345678901@newsletter'],
    ['+62 812-3456-7890', '6281234567890'],
    ['120363012345678901@g.us', '120363012345678901@g.us'],
  ])('%s is %s', (text, address) => {
    expect(parseDestination(text)?.address).toBe(address);
  });

  it.each([
    'statuses',
    'my status',
    '@newsletter',
    'x@newsletter',
    '12@newsletter',
    'broadcast',
    '62812@broadcast',
    '',
  ])('%j is none', (text) => {
    expect(parseDestination(text)).toBeNull();
  });

  it('is no person if one posts there', () => {
    for (const text of ['status', 'status@broadcast', '120363012345678901@newsletter'])
      expect(parseRecipient(text)).toBeNull();
  });
});

describe('two numbers', () => {
  it.each([
    ['Brazil', '5511987654321', '551187654321'],
    ['Mexico', '5215512345678', '525512345678'],
    ['Argentina', '5491123456789', '541123456789'],
    ['Benin', '2290197123456', '22997123456'],
    ['Ivory Coast', '2250707123456', '22507123456'],
  ])('are the same in another form: %s', (_country, one, other) => {
    expect(isSameNumber(one, other)).toBe(true);
    expect(isSameNumber(other, one)).toBe(true);
    expect(isSameNumber(one, `${other.slice(0, -1)}0`)).toBe(false);
  });

  it('are not the same because one has a digit more', () => {
    expect(isSameNumber('62812345678', '628123456789')).toBe(false);
    expect(isSameNumber('5511987654321', '5521987654321')).toBe(false);
    expect(isSameNumber('4915123456789', '495123456789')).toBe(false);
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
