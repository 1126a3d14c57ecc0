import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { jsonObjects, type ListedObject, ndjsonObjects } from '../../src/campaigns/lists/json-objects.js';
import { listLimits } from '../../src/campaigns/lists/list-limits.js';
import { invalid, problemOf, readWhole, recipients } from './read-list.js';

const ndjson = (...objects: unknown[]) => objects.map((object) => `${JSON.stringify(object)}\n`).join('');
const json = (...objects: unknown[]) => JSON.stringify({ recipients: objects }, null, 2);

describe.each([
  ['ndjson', ndjson],
  ['json', json],
] as const)('a list in %s', (format, write) => {
  const options = { format, country: 'ID' } as const;

  async function objectsOf(pieces: Buffer[]) {
    const source = (async function* () {
      yield* pieces;
    })();
    const all: ListedObject[] = [];
    for await (const some of format === 'json' ? jsonObjects(source) : ndjsonObjects(source))
      all.push(...some);
    return all;
  }

  it('has variables in an object or beside the number', async () => {
    const list = await readWhole(
      write(
        {
          to: '0812-3456-7890',
          variables: { Name: ' Ana ', total: 50_000, paid: true, city: null, note: '' },
        },
        { phone: 6281234567891, name: 'Budi', kota: 'Bogor' },
        { to: '123456789012345@lid' },
      ),
      options,
    );
    expect(recipients(list)).toEqual([
      [1, '6281234567890', { name: 'Ana', total: '50000', paid: 'true' }],
      [2, '6281234567891', { name: 'Budi', kota: 'Bogor' }],
      [3, '123456789012345@lid', {}],
    ]);
    expect(list.header).toEqual(['to', 'Name', 'total', 'paid', 'city', 'note', 'kota']);
    expect(list.rows[1]!.values).toEqual(['6281234567891', 'Budi', '', '', '', '', 'Bogor']);
  });

  it('has the names that the caller gives', async () => {
    const columns = { to: 'contact', name: 'Nama' };
    const list = await readWhole(write({ contact: '+6281234567890', variables: { nama: 'Ana' } }), {
      ...options,
      columns,
    });
    expect(recipients(list)).toEqual([[1, '6281234567890', { name: 'Ana' }]]);
  });

  it.each([
    [{ to: 'x', name: 'Ana' }, 'to', 'x', /^is neither a phone number of ID/],
    [{ to: '' }, 'to', '', /^is empty/],
    [{ to: null }, 'to', '', /^is empty/],
    [{ to: ['+6281234567890'] }, 'to', '["+6281234567890"]', /^must be a string, a number/],
    [{ name: 'Ana' }, 'to', '', /^is missing/],
    [{ phone: '+6281234567890', hp: '+6281234567891' }, 'phone', '+6281234567890', /^is not the only member/],
    [
      { to: '+6281234567890', variables: { a: { b: 1 } } },
      'a',
      '{"b":1}',
      /^must be a string.*not a list or an object/,
    ],
    [{ to: '+6281234567890', variables: [1] }, 'variables', '[1]', /^must be a JSON object/],
    [{ to: '+6281234567890', a: 'x', variables: { A: 'y' } }, 'A', 'y', /^is there twice/],
    [{ to: '+6281234567890', a: 2 ** 60 }, 'a', '1152921504606847000', /^is a number with too many digits/],
    [{ to: '+6281234567890', a: 'x'.repeat(4_097) }, 'a', `${'x'.repeat(200)}…`, /more than 4096 characters/],
    [
      { to: '+6281234567890', ['a'.repeat(201)]: 'x' },
      `${'a'.repeat(200)}…`,
      'x',
      /^has a name of 201 characters/,
    ],
    [{ to: '+6281234567890', '': 'x' }, '', 'x', /^has a name of 0 characters/],
    [
      {
        to: '+6281234567890',
        ...Object.fromEntries(Array.from({ length: 257 }, (_none, index) => [`v${index}`, 1])),
      },
      null,
      '',
      /^has 257 variables.*at most 256/,
    ],
    ['+6281234567890', null, '"+6281234567890"', /^is not a JSON object/],
    [[1], null, '[1]', /^is not a JSON object/],
    [null, null, 'null', /^is not a JSON object/],
  ])('keeps a wrong line with its variable and the reason: %#', async (wrong, column, value, reason) => {
    const good = { to: '+6281234567891', variables: {} };
    const list = await readWhole(write(good, wrong, good), options);
    expect(recipients(list).map(([line]) => line)).toEqual([1, 3]);
    expect(invalid(list)).toEqual([
      {
        isValid: false,
        line: 2,
        column,
        value,
        reason: expect.stringMatching(reason),
        values: expect.any(Array),
      },
    ]);
  });

  it('keeps the values of a wrong line in the columns of the list', async () => {
    const list = await readWhole(
      write({ to: '+6281234567890', name: 'Ana' }, { to: 'x', city: 'Bogor', variables: { name: 'Budi' } }),
      options,
    );
    expect(list.header).toEqual(['to', 'name', 'city']);
    expect(list.rows[1]!.values).toEqual(['x', 'Budi', 'Bogor']);
  });

  it('cannot bring new variables without end', async () => {
    const objects = Array.from({ length: 300 }, (_none, index) => ({
      to: '+6281234567890',
      [`v${index}`]: 'x',
    }));
    const list = await readWhole(write(...objects), options);
    expect(list.header).toHaveLength(listLimits.columns);
    expect(invalid(list)).toHaveLength(300 - (listLimits.columns - 1));
    expect(invalid(list)[0]!.reason).toMatch(/one name too many.*at most 255/);
  });

  it('gives the same rows in any pieces, and the names of objects of JavaScript are names like others', async () => {
    const names = ['__proto__', 'constructor', 'toString', 'a', 'Nama', 'ciudad ñ'];
    const value = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 20 }),
      fc.integer(),
      fc.boolean(),
      fc.constant(null),
    );
    const object = fc
      .record({
        to: fc.constantFrom('+6281234567890', 'x'),
        entries: fc.uniqueArray(fc.tuple(fc.constantFrom(...names), value), { selector: ([name]) => name }),
      })
      .map(({ to, entries }) => ({ to, variables: Object.fromEntries(entries) }));
    await fc.assert(
      fc.asyncProperty(
        fc.array(object, { minLength: 1 }),
        fc.integer({ min: 1, max: 50 }),
        async (objects, size) => {
          const bytes = Buffer.from(write(...objects));
          const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_none, index) =>
            bytes.subarray(index * size, (index + 1) * size),
          );
          const list = await readWhole(bytes, options);
          expect(await objectsOf(pieces)).toEqual(await objectsOf([bytes]));
          const texts = ({ variables }: (typeof objects)[number]) =>
            Object.entries(variables).map(([name, each]) => [
              name.toLowerCase(),
              each === null ? '' : String(each).replaceAll('\0', '').toWellFormed().trim(),
            ]);
          expect(list.rows.map((row) => (row.isValid ? Object.entries(row.variables) : row.column))).toEqual(
            objects.map((each) => {
              if (each.to === 'x') return 'to';
              const broken = texts(each).findIndex(([, text]) => text!.includes('\ufffd'));
              return broken === -1
                ? texts(each).filter(([, text]) => text !== '')
                : Object.keys(each.variables)[broken];
            }),
          );
        },
      ),
      { numRuns: 40 },
    );
  });

  it('cannot be read if one recipient is too long, or if there is none', async () => {
    const long = write(
      { to: '+6281234567890' },
      { to: '+6281234567890', note: 'x'.repeat(2 * listLimits.lineBytes) },
    );
    expect(await problemOf(readWhole(long, options))).toMatch(
      /^campaign.list_too_large: (Line|Recipient) 2 has more/,
    );
    expect(await problemOf(readWhole(write(), options))).toMatch(/^campaign.list_empty/);
  });
});

describe('a list in NDJSON', () => {
  it('keeps the numbers of its lines, and a line that is not JSON is invalid', async () => {
    const list = await readWhole('\ufeff{"to":"+6281234567890"}\r\n\r\n{"to":\n{"to":"+6281234567891"}', {
      format: 'ndjson',
    });
    expect(recipients(list)).toEqual([
      [1, '6281234567890', {}],
      [4, '6281234567891', {}],
    ]);
    expect(invalid(list)).toMatchObject([
      { line: 3, column: null, value: '{"to":', reason: expect.stringMatching(/not JSON/) },
    ]);
  });
});

describe('a list in JSON', () => {
  it.each([
    ['{"recipients":[{"to":"+6281234567890"},', /after recipient 1/],
    ['{"recipients":[{"to":"+6281234567890"} {', /after recipient 1/],
    ['{"recipients":{"to":"+6281234567890"}}', /"recipients" is not a list/],
    ['to,name\n+6281234567890,Ana', /after recipient 0/],
    ['{"recipients":[{"to":"+6281234567890"}]}{}', /after recipient 1/],
  ])('%s cannot be read', async (text, detail) => {
    const problem = await problemOf(readWhole(text, { format: 'json' }));
    expect(problem).toMatch(/^campaign.list_unreadable: The list cannot be read as JSON/);
    expect(problem).toMatch(detail);
  });

  it('may have other members beside the recipients', async () => {
    const text = '{"name":"a","options":{"x":[1,2]},"recipients":[{"to":"+6281234567890"}],"more":null}';
    expect(recipients(await readWhole(text, { format: 'json' }))).toEqual([[1, '6281234567890', {}]]);
  });
});
