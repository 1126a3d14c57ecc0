import { writeXlsx, writeXlsxStream } from 'hucre/xlsx';
import { describe, expect, it } from 'vitest';
import { invalid, problemOf, readPieces, readWhole, recipients } from './read-list.js';
import { xlsx, zip } from './zip.js';

const options = { format: 'xlsx', country: 'ID' } as const;
const row = (...cells: string[]) =>
  `<row>${cells.map((cell) => `<c t="inlineStr"><is><t>${cell}</t></is></c>`).join('')}</row>`;
const header = row('to', 'name');

describe('an XLSX file', () => {
  const table = [
    ['Nomor HP', 'Nama', 'Tanggal', 'Total', 'Lunas'],
    ['0812-3456-7890', 'Ana & Budi', new Date(Date.UTC(2026, 11, 1)), 1.1, true],
    [],
    [6281234567891, 'José', new Date(Date.UTC(2026, 11, 1, 13, 30)), 50_000, false],
    ['hello', 'Cici', null, null, null],
  ];
  const expected = [
    [2, '6281234567890', { nama: 'Ana & Budi', tanggal: '2026-12-01', total: '1.1', lunas: 'true' }],
    [4, '6281234567891', { nama: 'José', tanggal: '2026-12-01T13:30:00', total: '50000', lunas: 'false' }],
  ];

  it('of a program that shares the texts of cells gives its rows', async () => {
    const file = await writeXlsx({
      sheets: [
        { name: 'Daftar', rows: table },
        { name: 'Lain', rows: [['x']] },
      ],
    });
    const list = await readWhole(file, options);
    expect(list.header).toEqual(['Nomor HP', 'Nama', 'Tanggal', 'Total', 'Lunas']);
    expect(recipients(list)).toEqual(expected);
    expect(invalid(list)).toMatchObject([
      { line: 5, column: 'Nomor HP', value: 'hello', values: ['hello', 'Cici'] },
    ]);
  });

  it('of a program that streams its cells gives its rows, in any pieces', async () => {
    const file = Buffer.from(await new Response(writeXlsxStream(table, { name: 'Daftar' })).arrayBuffer());
    expect(recipients(await readWhole(file, options))).toEqual(expected);
    const pieces = Array.from({ length: Math.ceil(file.length / 7) }, (_none, index) =>
      file.subarray(index * 7, index * 7 + 7),
    );
    expect(recipients(await readPieces(pieces, options))).toEqual(expected);
  });

  it('has texts with formats, furigana, entities and escapes, results of formulas, and cells without a place', async () => {
    const file = xlsx(
      '<row r="3"><c r="B3" t="s"><v>0</v></c><c r="D3" t="s"><v>1</v></c><c t="s"><v>2</v></c></row>' +
        '<row r="7"><c r="B7" t="str"><f>"62"&amp;A1</f><v>6281234567890</v></c><c r="D7" t="s"><v>3</v></c><c r="E7"><v>2</v></c></row>' +
        '<row><c r="B8"><v>6.28123456789E11</v></c><c r="D8" t="e"><v>#N/A</v></c></row>' +
        '<row><c r="B9"><v>6.2812345678901234E15</v></c></row>' +
        '<row><c r="B10"><v>81234567</v></c><c r="E10" t="d"><v>2026-12-01</v></c></row>',
      {
        texts:
          '<si><t>phone</t></si><si><t xml:space="preserve"> na</t></si><si><t>x</t></si>' +
          '<si><r><rPr><b/></rPr><t>山田 &lt;</t></r><r><t>&#9731;_x000A_太郎</t></r><rPh sb="0" eb="1"><t>ヤマダ</t></rPh></si>',
      },
    );
    const list = await readWhole(file, options);
    expect(list.header).toEqual(['', 'phone', '', 'na', 'x']);
    expect(recipients(list)).toEqual([
      [7, '6281234567890', { na: '山田 <☃\n太郎', x: '2' }],
      [10, '6281234567', { x: '2026-12-01' }],
    ]);
    expect(invalid(list).map(({ line, column, reason }) => [line, column, reason])).toEqual([
      [8, 'na', expect.stringMatching(/error of a formula/)],
      [9, 'phone', expect.stringMatching(/rounded/)],
    ]);
  });

  it('has dates and times as ISO 8601, by the format of their cells', async () => {
    const formats = ['14', '165', '166', '167', '0'];
    const styles =
      '<numFmts><numFmt numFmtId="165" formatCode="[$-421]dd\\ mmmm\\ yyyy;@"/><numFmt numFmtId="166" formatCode="&quot;days &quot;0"/><numFmt numFmtId="167" formatCode="hh:mm"/></numFmts>' +
      '<cellStyleXfs><xf numFmtId="14"/></cellStyleXfs>' +
      `<cellXfs>${formats.map((id) => `<xf numFmtId="${id}"/>`).join('')}</cellXfs>`;
    const cells = [46357, 46357.5, 7, 0.75, 46357].map(
      (value, style) => `<c s="${style}"><v>${value}</v></c>`,
    );
    const file = xlsx(
      row('to', 'a', 'b', 'c', 'd', 'e', 'f', 'g') +
        `<row><c><v>6281234567890</v></c>${cells.join('')}<c s="0"><v>59</v></c><c s="0"><v>61</v></c></row>`,
      { styles },
    );
    expect(recipients(await readWhole(file, options))).toEqual([
      [
        2,
        '6281234567890',
        {
          a: '2026-12-01',
          b: '2026-12-01T12:00:00',
          c: '7',
          d: '18:00:00',
          e: '46357',
          f: '1900-02-28',
          g: '1900-03-01',
        },
      ],
    ]);
  });

  it('is read from its first visible sheet, or from the sheet with a name', async () => {
    const sheets =
      '<sheet name="Notes" sheetId="1" state="hidden" r:id="rId1"/><sheet name="Customers" sheetId="2" r:id="rId2"/>';
    const file = xlsx(header + row('+6281234567890', 'Ana'), { sheets });
    expect(recipients(await readWhole(file, options))).toEqual([[2, '6281234567899', {}]]);
    expect(recipients(await readWhole(file, { ...options, sheet: 'Notes' }))).toHaveLength(1);
    expect(await problemOf(readWhole(file, { ...options, sheet: 'Nobody' }))).toMatch(
      /^campaign.list_unreadable: .*"Notes", "Customers"/,
    );
  });

  it('of many rows comes in batches', async () => {
    const rows = Array.from({ length: 2_500 }, (_none, index) => row(`+62812${30_000_000 + index}`, 'Ana'));
    const list = recipients(await readWhole(xlsx(header + rows.join('')), options));
    expect(list).toHaveLength(2_500);
    expect(list.at(-1)).toEqual([2_501, '6281230002499', { name: 'Ana' }]);
  });

  const damaged = /^campaign.list_unreadable: The file is not an XLSX file, is damaged, or has a password/;
  const good = xlsx(header + row('+6281234567890', 'Ana'));

  it.each([
    ['a CSV file', Buffer.from('to,name\n+6281234567890,Ana\n'), damaged],
    ['empty', Buffer.alloc(0), damaged],
    ['cut off', good.subarray(0, -100), damaged],
    ['another archive', zip({ 'a.txt': 'x' }), damaged],
    ['not XML', xlsx('<row><c></row>'), damaged],
    ['with a document type', xlsx(header, { head: '<!DOCTYPE x [<!ENTITY a "aaaa">]>' }), damaged],
    ['with elements without end', xlsx(`${'<a>'.repeat(1_000)}${'</a>'.repeat(1_000)}`), damaged],
    ['with a place that no sheet has', xlsx('<row r="9999999"><c r="A1"><v>1</v></c></row>'), damaged],
    ['with a column that no sheet has', xlsx('<row><c r="ZZZZZZ1"><v>1</v></c></row>'), damaged],
    [
      'larger than it says',
      xlsx(header + row('+6281234567890', 'x'.repeat(100_000)), { claimedSize: 1_000 }),
      damaged,
    ],
    [
      'larger than any list',
      xlsx(header, { claimedSize: 2 ** 31 }),
      /^campaign.list_too_large: A part of the XLSX file unpacks to more than/,
    ],
    [
      'of too many columns',
      xlsx(header + '<row r="2"><c r="IW2"><v>1</v></c></row>'),
      /^campaign.list_too_large: Row 2 has a value in column 257.*at most 256/,
    ],
    [
      'with a row of too much text',
      xlsx(header + `<row><c><v>6281234567890</v></c>${'<c t="s"><v>0</v></c>'.repeat(20)}</row>`, {
        texts: `<si><t>${'x'.repeat(5_000)}</t></si>`,
      }),
      /^campaign.list_too_large: Row 2 has more than 65536 characters/,
    ],
    ['without rows', xlsx(header), /^campaign.list_empty: The list has a header/],
    ['without a header', xlsx(row('+6281234567890', 'Ana')), /^campaign.list_without_header: Line 1/],
  ])('that is %s cannot be read', async (_what, file, problem) => {
    expect(await problemOf(readWhole(file, options))).toMatch(problem);
  });

  it('with a very long value keeps that row as invalid', async () => {
    const list = await readWhole(xlsx(header + row('+6281234567890', 'x'.repeat(200_000))), options);
    expect(invalid(list)).toMatchObject([
      { line: 2, column: 'name', reason: expect.stringMatching(/more than 4096 characters/) },
    ]);
    expect(list.rows[0]!.values[1]!.length).toBeLessThan(5_000);
  });
});
