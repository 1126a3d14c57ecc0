import { describe, expect, it } from 'vitest';
import { fromVcard, toVcard } from '../../src/messages/vcard.js';

describe('a contact card', () => {
  it.each([
    { name: 'Siti Rahma', phone: '6281234567890', organization: 'Toko; Maju, Jaya' },
    { name: 'A\\B, C;D\nE', phone: '6281234567890', organization: null },
  ])('is read back as it was written (%o)', (contact) => {
    expect(fromVcard(toVcard(contact))).toEqual(contact);
  });

  it.each([
    ['folded lines', 'BEGIN:VCARD\r\nFN:Siti\r\n  Rahma\r\nEND:VCARD', { name: 'Siti Rahma', phone: null }],
    ['a group of fields', 'item1.TEL:+62 812-3456-7890\nFN:S', { name: 'S', phone: '6281234567890' }],
    ['only the parts of a name', 'N:Rahma;Siti;;;', { name: 'Siti Rahma' }],
    ['nothing', '', { name: '', phone: null, organization: null }],
  ])('is read with %s', (_what, card, contact) => {
    expect(fromVcard(card)).toMatchObject(contact);
  });
});
