import fc from 'fast-check';
import iconv from 'iconv-lite';
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { csvLines } from '../../src/campaigns/lists/csv-lines.js';
import { invalidCsv } from '../../src/campaigns/lists/invalid-csv.js';
import { listLimits } from '../../src/campaigns/lists/list-limits.js';
import type { TableLine } from '../../src/campaigns/lists/table-line.js';
import { readList } from '../../src/campaigns/lists/read-list.js';
import { invalid, problemOf, readPieces, readWhole, recipients } from './read-list.js';

const encoders: Record<string, (text: string) => Uint8Array> = {
  'UTF-8': (text) => Buffer.from(text),
  'UTF-8 with a byte order mark': (text) => Buffer.from(`\ufeff${text}`),
  'UTF-16 LE with a byte order mark': (text) => Buffer.from(`\ufeff${text}`, 'utf16le'),
  'UTF-16 BE with a byte order mark': (text) => Buffer.from(`\ufeff${text}`, 'utf16le').swap16(),
  'UTF-16 LE': (text) => Buffer.from(text, 'utf16le'),
  'UTF-16 BE': (text) => Buffer.from(text, 'utf16le').swap16(),
  'Windows-1252': (text) => iconv.encode(text, 'win1252'),
};

describe('a CSV file', () => {
  it('of Excel has a line sep=, semicolons, a byte order mark and Windows line ends', async () => {
    const file =
      '\ufeffsep=;\r\nNomor HP;Nama;Kota\r\n0812-3456-7890;Ana;Jakarta, Pusat\r\n6281234567891;"Budi ""B"" Santoso";Bogor\r\n;;\r\n';
    const list = await readWhole(file);
    expect(list.header).toEqual(['Nomor HP', 'Nama', 'Kota']);
    expect(list.rows).toEqual([
      {
        isValid: true,
        line: 3,
        to: '6281234567890',
        person: '6281234567890',
        variables: { nama: 'Ana', kota: 'Jakarta, Pusat' },
        values: ['0812-3456-7890', 'Ana', 'Jakarta, Pusat'],
      },
      {
        isValid: true,
        line: 4,
        to: '6281234567891',
        person: '6281234567891',
        variables: { nama: 'Budi "B" Santoso', kota: 'Bogor' },
        values: ['6281234567891', 'Budi "B" Santoso', 'Bogor'],
      },
    ]);
  });

  it('of Excel as "Unicode text" has tabs and UTF-16', async () => {
    const file = encoders['UTF-16 LE with a byte order mark']!(
      'Teléfono\tNombre\tCiudad\r\n55 1234 5678\tJosé\t"Ciudad de México\tCentro"\r\n55 1234 5679\t\tPuebla\r\n',
    );
    expect(recipients(await readWhole(file, { country: 'MX' }))).toEqual([
      [2, '525512345678', { nombre: 'José', ciudad: 'Ciudad de México\tCentro' }],
      [3, '525512345679', { ciudad: 'Puebla' }],
    ]);
  });

  it('of LibreOffice has values of several lines, and the lines keep the numbers of an editor', async () => {
    const file =
      'name,phone,address\n"Ana",+62 812 3456 7890,"Jl. Mawar 1\nJakarta"\n\n"Budi",081234567891,\n,,\n"Cici",x,"a\r\nb"\nDedi,y,\n';
    const list = await readWhole(file);
    expect(recipients(list)).toEqual([
      [2, '6281234567890', { name: 'Ana', address: 'Jl. Mawar 1\nJakarta' }],
      [5, '6281234567891', { name: 'Budi' }],
    ]);
    expect(invalid(list).map(({ line, value }) => [line, value])).toEqual([
      [7, 'x'],
      [9, 'y'],
    ]);
  });

  it('of Google Sheets has no line end at its end and quotes only where they must be', async () => {
    const file = 'Celular,Nome,Observação\r\n(11) 98765-4321,João,"ok, obrigado"\r\n5511912345678,Maria,';
    expect(recipients(await readWhole(file, { country: 'BR' }))).toEqual([
      [2, '5511987654321', { nome: 'João', observação: 'ok, obrigado' }],
      [3, '5511912345678', { nome: 'Maria' }],
    ]);
  });

  it('of people has spaces around quotes, quotes within text, mixed line ends and separators at the ends of lines', async () => {
    const file =
      'to, name , size ,,\r\n+6281234567890, "Ana",5" pipe,,\n+6281234567891,"Budi"x,"6""",\r+6281234567892,Cici,\n\n\n';
    const list = await readWhole(file);
    expect(list.header).toEqual(['to', 'name', 'size']);
    expect(recipients(list)).toEqual([
      [2, '6281234567890', { name: 'Ana', size: '5" pipe' }],
      [3, '6281234567891', { name: '"Budi"x', size: '6"' }],
      [4, '6281234567892', { name: 'Cici' }],
    ]);
  });

  it.each([
    'to',
    'TO ',
    'Phone Number',
    'WhatsApp',
    'No. HP',
    'Nomor Telepon',
    'Teléfono',
    'Número de celular',
    'Telefone',
    'Móvil',
    'hp',
  ])('has its numbers in the column %j', async (name) => {
    expect(recipients(await readWhole(`No;${name};Nama\n1;+6281234567890;Ana\n`))).toEqual([
      [2, '6281234567890', { no: '1', nama: 'Ana' }],
    ]);
  });

  it('has the columns that the caller names', async () => {
    const file = 'Penerima;Nama lengkap;kota\n0812 3456 7890;Ana;Bogor\n';
    const columns = { to: 'penerima', Name: 'NAMA  LENGKAP' };
    expect(recipients(await readWhole(file, { columns }))).toEqual([
      [2, '6281234567890', { name: 'Ana', kota: 'Bogor' }],
    ]);
  });

  it('may have a column without a name, as pandas writes it', async () => {
    expect(recipients(await readWhole(',to,name\n0,628123456789.0,Ana\n'))).toEqual([
      [2, '628123456789', { name: 'Ana' }],
    ]);
  });

  it.each([
    [
      '6.28123E+11,Ana,',
      'Phone',
      '6.28123E+11',
      /^is a number that the spreadsheet has rounded.*column as text/,
    ],
    ['hello,Ana,', 'Phone', 'hello', /^is neither a phone number of ID nor/],
    [',Ana,', 'Phone', '', /^is empty/],
    ['120363012345678901@g.us,Ana,', 'Phone', '120363012345678901@g.us', /^is a group/],
    ['+6281234567890,#N/A,', 'Name', '#N/A', /^is an error of a formula/],
    ['+6281234567890,An\ufffd,', 'Name', 'An\ufffd', /^has a letter that cannot be read.*UTF-8/],
    [
      '+6281234567890,Doe, John,Jakarta',
      null,
      'Jakarta',
      /^has a value in column 4, and the header names 3 columns: put quotes/,
    ],
    [
      `+6281234567890,Ana,${'x'.repeat(listLimits.valueLength + 1)}`,
      'City',
      `${'x'.repeat(200)}…`,
      /^has more than 4096 characters/,
    ],
  ])('keeps a wrong line with its column and the reason: %#', async (line, column, value, reason) => {
    const list = await readWhole(
      `Phone,Name,City\n+6281234567891,Budi,Bogor\n${line}\n+6281234567892,Cici,\n`,
    );
    expect(recipients(list).map(([number]) => number)).toEqual([2, 4]);
    expect(invalid(list)).toEqual([
      {
        isValid: false,
        line: 3,
        column,
        value,
        reason: expect.stringMatching(reason),
        values: expect.any(Array),
      },
    ]);
  });

  it.each([
    ['', 'campaign.list_empty', /The list is empty/],
    ['\r\n \r\n', 'campaign.list_empty', /The list is empty/],
    ['to,name\r\n\r\n,,\r\n', 'campaign.list_empty', /has a header and no lines/],
    [
      '+6281234567890,Ana\n+6281234567891,Budi\n',
      'campaign.list_without_header',
      /Line 1.*Insert a line above it/,
    ],
    ['\n0812-3456-7890\n', 'campaign.list_without_header', /Line 2/],
    ['name,city\nAna,Bogor\n', 'campaign.list_number_column', /No column seems.*"name", "city".*Rename/],
    ['phone,mobile\n1,2\n', 'campaign.list_number_column', /More than one column.*"phone", "mobile"/],
    ['to,Name, name \n1,2,3\n', 'campaign.list_column_twice', /"name".*Rename/],
    ['to,name\n+6281234567890,"Ana\n', 'campaign.list_unreadable', /quote.*opens in line 2/],
    ['to,"name\n', 'campaign.list_unreadable', /quote.*opens in line 1/],
    [
      `to,name\n1,"${'x\n'.repeat(listLimits.lineBytes)}`,
      'campaign.list_too_large',
      /Line 2 has more than 65536 bytes/,
    ],
    ['x'.repeat(3 * listLimits.lineBytes), 'campaign.list_too_large', /Line 1 has more than 65536 bytes/],
    [`to${',a'.repeat(listLimits.columns)}\n1`, 'campaign.list_too_large', /257 columns.*at most 256/],
    [
      `to,${'a'.repeat(201)}\n1`,
      'campaign.list_too_large',
      /name of column 2 has 201 characters.*at most 200/,
    ],
    ['PK\u0003\u0004', 'campaign.list_unreadable', /is an XLSX file/],
  ])('cannot be read if it has no sense: %#', async (file, code, detail) => {
    const problem = await problemOf(readWhole(file));
    expect(problem).toMatch(new RegExp(`^${code}: `));
    expect(problem).toMatch(detail);
  });

  it('of an old Excel cannot be read', async () => {
    const file = Buffer.concat([Buffer.from('d0cf11e0a1b11ae1', 'hex'), Buffer.alloc(1000)]);
    expect(await problemOf(readWhole(file))).toMatch(
      /^campaign.list_unreadable: .*XLS.*Save it as XLSX or CSV/,
    );
  });

  it('cannot be read with a mapping to a column that it does not have', async () => {
    const reading = readWhole('to,name\n+6281234567890,Ana\n', { columns: { city: 'Kota' } });
    expect(await problemOf(reading)).toMatch(/^campaign.list_column_unknown: .*"Kota".*"to", "name"/);
  });

  it('in Windows-1252 may have its first accent after megabytes', async () => {
    const count = 900;
    const line = `+6281234567890,Ana,${'x'.repeat(3_600)}\n`;
    const file = Buffer.from(`to,name,note\n${line.repeat(count)}+6281234567891,José,ação\n`, 'latin1');
    expect(file.length).toBeGreaterThan(3_000_000);
    const list = recipients(await readWhole(file));
    expect(list).toHaveLength(count + 1);
    expect(list.at(-1)).toEqual([count + 2, '6281234567891', { name: 'José', note: 'ação' }]);
  });

  it('in Windows-1252 may have a pair of letters that looks like UTF-8', async () => {
    const file = Buffer.concat([
      Buffer.from('to;name\n+6281234567890;CAF'),
      Buffer.from([0xc9, 0x96]),
      Buffer.from('BAR\n+6281234567891;José\n+6281234567892;João\n', 'latin1'),
    ]);
    expect(recipients(await readWhole(file)).map(([, , { name }]) => name)).toEqual([
      'CAFÉ–BAR',
      'José',
      'João',
    ]);
  });

  it('in UTF-8 with a broken letter after megabytes keeps that line as invalid', async () => {
    const line = Buffer.from('+6281234567890,José\n');
    const file = Buffer.concat([
      Buffer.from('to,name\n'),
      ...Array.from({ length: 5_000 }, () => line),
      Buffer.from('+6281234567891,Jos\xe9\n', 'latin1'),
      line,
    ]);
    const list = await readWhole(file);
    expect(recipients(list)).toHaveLength(5_001);
    expect(invalid(list).map(({ line: number, column }) => [number, column])).toEqual([[5_002, 'name']]);
  });

  const cell = fc.oneof(
    fc.string({
      unit: fc.constantFrom('a', 'é', ',', ';', '\t', '"', '\n', '\r\n', ' ', "'", '='),
      maxLength: 12,
    }),
    fc.string({ unit: 'binary', maxLength: 8 }),
  );
  const table = fc.array(fc.tuple(cell, cell), { minLength: 1, maxLength: 20 });
  const quoted = (value: string) => `"${value.replaceAll('"', '""')}"`;

  it('gives back every value that a program has quoted, with any separator, in any pieces', async () => {
    await fc.assert(
      fc.asyncProperty(
        table,
        fc.constantFrom(',', ';', '\t'),
        fc.constantFrom('\n', '\r\n', '\r'),
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 }),
        async (rows, separator, lineEnd, sizes) => {
          const lines = rows.map(([one, other]) =>
            ['+6281234567890', quoted(one), quoted(other)].join(separator),
          );
          const bytes = Buffer.from([['to', 'one', 'other'].join(separator), ...lines, ''].join(lineEnd));
          const whole = await readWhole(bytes);
          const kept = (value: string) => value.replaceAll('\u0000', '').toWellFormed().trim();
          expect(whole.rows.map((row) => (row.isValid ? row.variables : row.reason))).toEqual(
            rows.map(([one, other]) => {
              if (/\ufffd/.test(kept(one) + kept(other))) return expect.stringMatching(/cannot be read/);
              return Object.fromEntries(
                Object.entries({ one: kept(one), other: kept(other) }).filter(([, value]) => value !== ''),
              );
            }),
          );
          const linesOf = async (pieces: Iterable<Uint8Array>) => {
            const all: TableLine[] = [];
            for await (const some of csvLines(bufferOf(pieces), (name) => name === 'to')) all.push(...some);
            return all;
          };
          expect(await linesOf(divided(bytes, sizes))).toEqual(await linesOf([bytes]));
        },
      ),
      { numRuns: 150 },
    );
  });

  it.each(Object.keys(encoders))('gives the same rows in %s, in any pieces', async (encoding) => {
    const rows = 'to;nama\r\n+6281234567890;Ána € –\r\n';
    const tail = '+6281234567891;João\r\n+6281234567892;"¡Olé; ñ!"';
    const bytes = encoders[encoding]!(rows + tail);
    const expected = recipients(await readWhole(rows + tail));
    expect(expected).toHaveLength(3);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 4 }),
        async (sizes) => {
          expect(recipients(await readPieces(divided(bytes, sizes)))).toEqual(expected);
        },
      ),
      { numRuns: 30 },
    );
  });
});

describe('the reading of a list', () => {
  function* endless(state: { lines: number }) {
    yield Buffer.from('to,name\n');
    for (;;) {
      state.lines += 100;
      yield Buffer.from('+6281234567890,Ana\n'.repeat(100));
    }
  }

  it('waits for a turn before a few milliseconds of work, and reads no further than its caller', async () => {
    const state = { lines: 0 };
    const source = Readable.from(endless(state));
    let turns = 0;
    const turn = () => {
      turns += 1;
      return Promise.resolve();
    };
    for await (const { rows } of readList(source, { format: 'csv', country: null, turn })) {
      expect(rows).toHaveLength(1_000);
      break;
    }
    expect(source.destroyed).toBe(true);
    expect(turns).toBeGreaterThanOrEqual(3);
    expect(state.lines).toBeLessThan(5_000);
  });

  it('gives batches of a limited size', async () => {
    const line = `+6281234567890,${'x'.repeat(4_000)}\n`;
    const wide = `+6281234567890,Ana${','.repeat(60_000)}\n`;
    const source = Readable.from([Buffer.from(`to,name\n${line.repeat(600)}${wide}`)]);
    const turn = () => Promise.resolve();
    const sizes: number[] = [];
    for await (const { rows } of readList(source, { format: 'csv', country: null, turn })) {
      sizes.push(rows.length);
      for (const { values } of rows) expect(values).toHaveLength(2);
    }
    expect(sizes).toEqual([262, 262, 77]);
  });

  it('destroys the source after an error', async () => {
    const source = Readable.from([Buffer.from('name\nAna\n')]);
    const turn = () => Promise.resolve();
    const reading = readList(source, { format: 'csv', country: null, turn }).next();
    expect(await problemOf(reading)).toMatch(/^campaign.list_number_column/);
    expect(source.destroyed).toBe(true);
  });

  it('passes on the error of the source and of the turn', async () => {
    const lost = new Error('the connection is lost');
    const source = Readable.from(
      (function* () {
        yield Buffer.from('to\n+6281234567890\n');
        throw lost;
      })(),
    );
    const read = async (from: Readable, turn: () => Promise<void>) => {
      const batches = readList(from, { format: 'csv', country: null, turn });
      while (!(await batches.next()).done);
    };
    await expect(read(source, () => Promise.resolve())).rejects.toBe(lost);
    await expect(read(Readable.from(endless({ lines: 0 })), () => Promise.reject(lost))).rejects.toBe(lost);
  });
});

describe('the CSV file of the invalid lines', () => {
  async function csvOf(header: readonly string[], rows: Parameters<typeof invalidCsv>[1]): Promise<string> {
    let text = '';
    for await (const part of invalidCsv(header, rows)) text += part;
    return text;
  }

  it('has the columns of the list and the reason, and can be sent again once it is corrected', async () => {
    const file =
      'Nomor HP;Nama;Catatan\n0812;"Ana; ""A""";=1+1\n+6281234567890;Budi;\n6.28E+11;Cici;"dua\nbaris"\n';
    const list = await readWhole(file);
    const csv = await csvOf(list.header, invalid(list));
    expect(csv).toBe(
      '\ufeffNomor HP,Nama,Catatan,reason\r\n' +
        '0812,"Ana; ""A""",=1+1,Nomor HP: is neither a phone number of ID nor a number with country code: write it as +6281234567890\r\n' +
        '6.28E+11,Cici,"dua\nbaris","Nomor HP: is a number that the spreadsheet has rounded, so its last digits are lost: format the column as text, enter the numbers again, and save the list again"\r\n',
    );
    const corrected = csv.replace('0812,', '081234567891,');
    const again = await readWhole(corrected);
    expect(recipients(again).map(([line, to, { nama, catatan }]) => [line, to, nama, catatan])).toEqual([
      [2, '6281234567891', 'Ana; "A"', '=1+1'],
    ]);
    // The old reasons make place for the new ones.
    const second = await csvOf(again.header, invalid(again));
    expect(second.split('\r\n')[0]).toBe('\ufeffNomor HP,Nama,Catatan,reason');
    expect(second.match(/rounded/g)).toHaveLength(1);
  });

  it('keeps a column reason of the list, and no text of ours runs as a formula', async () => {
    const row = { column: '=HYPERLINK("x")', reason: 'is wrong', values: ['1', 'late'] };
    expect(await csvOf(['to', 'Reason', 'name'], [row])).toBe(
      `\ufeffto,Reason,name,reason (Flotilla)\r\n1,late,,"'=HYPERLINK(""x""): is wrong"\r\n`,
    );
  });
});

async function* bufferOf(pieces: Iterable<Uint8Array>) {
  for (const piece of pieces) yield Buffer.from(piece);
}

/** The bytes in pieces of these sizes, again and again. */
function* divided(bytes: Uint8Array, sizes: readonly number[]) {
  for (let begin = 0, turn = 0; begin < bytes.length; turn += 1) {
    const end = begin + sizes[turn % sizes.length]!;
    yield bytes.subarray(begin, end);
    begin = end;
  }
}
