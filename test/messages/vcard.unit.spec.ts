import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { toRow } from '../../src/receiving/incoming-message.js';
import { fromVcard, isVcard, maxVcardLength, splitVcards, toVcard } from '../../src/messages/vcard.js';

const card = (...lines: string[]) => ['BEGIN:VCARD', 'VERSION:3.0', ...lines, 'END:VCARD'].join('\n');
const phones = (...lines: string[]) => fromVcard(card('FN:S', ...lines)).phones;

describe('a contact card', () => {
  it('is read back as it was written', () => {
    const text = fc
      .oneof(
        fc.string({ maxLength: 60 }),
        fc.constantFrom('Toko; Maju, Jaya', 'A\\B, C;D\nE', 'item1.TEL:+1', 'é\u{1f600}'),
      )
      .filter((value) => value.trim() !== '' && !/\r/.test(value))
      .map((value) => value.trim());
    const phone = fc.record({
      number: fc.constantFrom('+62 812-3456-7890', '0812-3456-7890', '112', '1-800-FLOWERS', '+1;ext=5'),
      phone: fc.constantFrom('6281234567890', '14155552671'),
      label: fc.oneof(
        fc.constantFrom(null, 'work', 'home', 'cell'),
        text.filter((label) => !label.startsWith('_$!<')),
      ),
    });
    fc.assert(
      fc.property(text, fc.array(phone, { maxLength: 5 }), fc.option(text), (name, list, organization) => {
        const written = toVcard({ name, phone: null, phones: list, organization });
        expect(isVcard(written)).toBe(true);
        expect(fromVcard(written)).toEqual({
          name,
          phone: list[0]?.phone ?? null,
          phones: list.map(({ label, ...rest }) => ({ ...rest, label: label ?? 'cell' })),
          organization,
          vcard: written,
        });
      }),
    );
  });

  it.each([
    ['folded lines', 'BEGIN:VCARD\r\nFN:Siti\r\n  Rahma\r\nEND:VCARD', { name: 'Siti Rahma', phone: null }],
    ['a group of fields', 'item1.TEL:+62 812-3456-7890\nFN:S', { name: 'S', phone: '6281234567890' }],
    ['only the parts of a name', 'N:Rahma;Siti;;;', { name: 'Siti Rahma' }],
    ['nothing', '', { name: '', phone: null, organization: null, phones: [] }],
    [
      'quoted-printable of vCard 2.1',
      'FN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:M=C3=BC=\r\nller\r\nTEL;CELL:+1 415 555 2671',
      { name: 'Müller', phone: '14155552671' },
    ],
  ])('is read with %s', (_what, text, contact) => {
    expect(fromVcard(text)).toMatchObject(contact);
  });

  it.each([
    ['TEL;type=CELL;waid=6281234567890:+62 812-3456-7890', '+62 812-3456-7890', '6281234567890', 'cell'],
    ['TEL;waid=6281234567890:0812-3456-7890', '0812-3456-7890', '6281234567890', null],
    ['TEL;TYPE=HOME,VOICE:0812-3456-7890', '0812-3456-7890', null, 'home'],
    ['TEL;VOICE;WORK:(415) 555-2671', '(415) 555-2671', null, 'work'],
    ['TEL;VALUE=uri;TYPE="voice,home":tel:+49-30-123456;ext=12', '+49-30-123456', '4930123456', 'home'],
    ['TEL;VALUE=uri:TEL:+1%20415%20555%202671', '+1 415 555 2671', '14155552671', null],
    ['TEL:tel:112', '112', null, null],
    ['TEL:0049 30 123456', '0049 30 123456', '4930123456', null],
    ['TEL:４１５５５５２６７１', '４１５５５５２６７１', null, null],
    ['tel:＋４９ ３０ １２３４５６', '＋４９ ３０ １２３４５６', '4930123456', null],
  ])('has the number of %s', (line, number, phone, label) => {
    expect(phones(line)).toEqual([{ number, phone, label }]);
  });

  it('has every number, with the label of its owner', () => {
    const lines = ['item1.TEL:+62 812-3456-7890', 'item1.X-ABLabel:_$!<Mobile>!$_', 'TEL:021-555', 'TEL: '];
    expect(phones(...lines, 'item2.TEL:911', 'item2.X-ABLabel:Emergency\\, night')).toEqual([
      { number: '+62 812-3456-7890', phone: '6281234567890', label: 'Mobile' },
      { number: '021-555', phone: null, label: null },
      { number: '911', phone: null, label: 'Emergency, night' },
    ]);
    expect(phones(...Array.from({ length: 500 }, (_, index) => `TEL:+49301234${100 + index}`))).toHaveLength(
      100,
    );
  });

  it.each([
    ['two cards', `${card('FN:A')}\n${card('FN:B')}`],
    ['no version', 'BEGIN:VCARD\nFN:A\nEND:VCARD'],
    ['no end', 'BEGIN:VCARD\nVERSION:3.0\nFN:A'],
    ['something before it', `Hello\n${card('FN:A')}x`],
    ['no card', 'hello'],
  ])('is no card with %s', (_what, text) => {
    expect(isVcard(text)).toBe(false);
    expect(isVcard(card('FN:A'))).toBe(true);
  });

  it('of several in one text is taken out', () => {
    const [first, second] = [card('FN:A', 'TEL:1'), card('FN:B')];
    expect(splitVcards(`${first}\n${second}`).map((one) => one.trim())).toEqual([first, second]);
    expect(splitVcards('hello')).toEqual(['hello']);
  });

  it('of a stranger costs no more than its length', () => {
    const size = 300_000;
    const started = performance.now();
    for (const text of [
      'BEGIN:VCARD\n',
      'A;quoted-printable\n=\n',
      'TEL;"',
      'FN:\\;',
      'a.a',
      '\n ',
      'ORG:;;',
      '=',
    ])
      for (const whole of [
        text.repeat(size / text.length),
        `FN;QUOTED-PRINTABLE:${text.repeat(size / text.length)}`,
      ])
        splitVcards(whole).slice(0, 257).forEach(fromVcard);
    expect(performance.now() - started).toBeLessThan(10_000);
  });

  it('is kept whole, unless the cards of a message are too long together', () => {
    const long = card('FN:A', `PHOTO;BASE64:${'x'.repeat(maxVcardLength - 200)}`, 'TEL:112');
    const message = { whatsappId: 'x', chatId: '1@c.us', from: '1@c.us', type: 'multi_vcard', text: '' };
    const vcards = [long, `${long} and more`.repeat(2), long, long, long, card('FN:B')];
    const { contact } = toRow({ ...message, vcards })!.content;
    expect(contact!.map(({ vcard }) => vcard !== null)).toEqual([true, false, true, true, true, true]);
    const more = toRow({ ...message, vcards: [...vcards, long] })!.content.contact!;
    expect(more.map(({ vcard }) => vcard !== null)).toEqual([true, false, true, true, true, true, false]);
    expect(more.map(({ phones: all }) => all[0]?.number)).toEqual([
      '112',
      '112',
      '112',
      '112',
      '112',
      undefined,
      '112',
    ]);
  });
});
