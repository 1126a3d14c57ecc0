import { describe, expect, it } from 'vitest';
import { listedPerson } from '../../src/campaigns/lists/listed-person.js';
import { isCountry, isSameNumber, sharedForm } from '../../src/platform/http/phone-number.js';

function read(text: string, country: string | null) {
  if (country !== null && !isCountry(country)) throw new Error(`${country} is no country`);
  return listedPerson(text, country);
}

function numberOf(text: string, country: string | null): string {
  const person = read(text, country);
  return typeof person === 'string' ? person : person.to;
}

describe('a person of a list', () => {
  it.each([
    // As people write numbers with a country code.
    ['+62 812-3456-7890', null, '6281234567890'],
    ['62 812 3456 7890', 'MX', '6281234567890'],
    ['0062 812 3456 7890', 'ID', '6281234567890'],
    ['+52 1 55 1234 5678', 'ID', '5215512345678'],
    ['+55 (11) 98765-4321', null, '5511987654321'],
    ['٦٢٨١٢٣٤٥٦٧٨٩٠', 'ID', '6281234567890'],
    // As they write numbers of their own country.
    ['0812-3456-789', 'ID', '628123456789'],
    ['(0812) 3456 7890', 'ID', '6281234567890'],
    ['6281234567890', 'ID', '6281234567890'],
    // With the code of the country, also where the library takes 62 for an area of it.
    ['62811123456', 'ID', '62811123456'],
    ['62 21 1234567', 'ID', '62211234567'],
    ['55 1234 5678', 'MX', '525512345678'],
    ['612 345 678', 'ES', '34612345678'],
    ['(11) 98765-4321', 'BR', '5511987654321'],
    // 55 is a code of an area of Brazil, too.
    ['55 98765-4321', 'BR', '5555987654321'],
    ['5511987654321', 'BR', '5511987654321'],
    ['551187654321', 'BR', '551187654321'],
    ['5215512345678', 'MX', '5215512345678'],
    ['541123456789', 'AR', '541123456789'],
    ['(202) 555-0108', 'US', '12025550108'],
    ['300 123 4567', 'CO', '573001234567'],
    ['11 2345-6789', 'AR', '541123456789'],
    // As spreadsheets write them: without the first 0, as a decimal number, or with marks of a text.
    ['812345678901', 'ID', '62812345678901'],
    ['628123456789.0', 'ID', '628123456789'],
    ['628123456789,00', 'ID', '628123456789'],
    ['628,123,456,789', 'ID', '628123456789'],
    ["'081234567890", 'ID', '6281234567890'],
    ["'+6281234567890", null, '6281234567890'],
    ['="081234567890"', 'ID', '6281234567890'],
    // Ids of WhatsApp.
    ['6281234567890@c.us', null, '6281234567890'],
    ['6281234567890@s.whatsapp.net', 'MX', '6281234567890'],
    ['123456789012345@lid', 'ID', '123456789012345@lid'],
    ['123456789012345:3@LID', null, '123456789012345@lid'],
  ])('%j of a list of %s is %s', (text, country, to) => {
    expect(numberOf(text, country)).toBe(to);
  });

  it.each([
    ['6.28123E+11', 'ID', /rounded.*format the column as text/],
    ['6,28123456789E+11', null, /rounded/],
    ['6.28E11', 'ID', /rounded/],
    ['0812-3456-789', null, /country code.*set the country of the list/],
    ['0812-3456-789', 'US', /neither a phone number of US nor/],
    // A number of Indonesia without its 0, or a number of Japan.
    ['81234567890', 'ID', /\+81234567890 or \+6281234567890: write the number with \+/],
    ['120363012345678901@g.us', 'ID', /is a group/],
    ['12@newsletter', null, /must be a phone number/],
    ['ana@example.com', 'ID', /must be a phone number/],
    ['Ana', 'ID', /neither a phone number of ID/],
    ['0812 3456 789 / 0813 1111 111', 'ID', /neither/],
    ['1', 'ID', /neither/],
    ['9'.repeat(1000), 'ID', /neither/],
  ])('%j of a list of %s is no person: %s', (text, country, reason) => {
    expect(read(text, country)).toMatch(reason);
  });

  it.each([
    ['+52 1 55 1234 5678', '+52 55 1234 5678'],
    ['+54 9 11 2345-6789', '+54 11 2345-6789'],
    ['+55 11 98765-4321', '+55 11 8765-4321'],
    ['+229 01 97 12 34 56', '+229 97 12 34 56'],
    ['+225 07 07 12 34 56', '+225 07 12 34 56'],
  ])('%s and %s are one person', (one, other) => {
    const [first, second] = [read(one, null), read(other, null)];
    if (typeof first === 'string' || typeof second === 'string') throw new Error('no person');
    expect(first.person).toBe(second.person);
    expect(isSameNumber(first.to, second.to)).toBe(true);
    expect(sharedForm(first.to)).toBe(first.person);
  });
});
