import { crc32, deflateRawSync } from 'node:zlib';

/** Writes a ZIP archive. */
export function zip(
  parts: Record<string, string | Buffer>,
  { claimedSize }: { claimedSize?: number } = {},
): Buffer {
  const bodies: Buffer[] = [];
  const index: Buffer[] = [];
  let offset = 0;
  for (const [name, content] of Object.entries(parts)) {
    const bytes = Buffer.from(content);
    const packed = deflateRawSync(bytes);
    const nameBytes = Buffer.from(name);
    // Version, flags, method, time, date, CRC, both sizes, length of the name, no extra field.
    const fields = Buffer.alloc(26);
    fields.writeUInt16LE(20, 0);
    fields.writeUInt16LE(8, 4);
    fields.writeUInt32LE(crc32(bytes), 10);
    fields.writeUInt32LE(packed.length, 14);
    fields.writeUInt32LE(claimedSize ?? bytes.length, 18);
    fields.writeUInt16LE(nameBytes.length, 22);
    const place = Buffer.alloc(14);
    place.writeUInt32LE(offset, 10);
    const body = Buffer.concat([Buffer.from('PK\u0003\u0004'), fields, nameBytes, packed]);
    index.push(
      Buffer.concat([Buffer.from('PK\u0001\u0002'), Buffer.from([20, 0]), fields, place, nameBytes]),
    );
    bodies.push(body);
    offset += body.length;
  }
  const directory = Buffer.concat(index);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(index.length, 4);
  end.writeUInt16LE(index.length, 6);
  end.writeUInt32LE(directory.length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...bodies, directory, Buffer.from('PK\u0005\u0006'), end]);
}

/** Writes an XLSX file with these parts. `sheet` is the inside of `sheetData`. */
export function xlsx(
  sheet: string,
  { texts, styles, sheets, head = '', ...zipOptions }: XlsxParts & { claimedSize?: number } = {},
): Buffer {
  const relation = (id: string, kind: string, target: string) =>
    `<Relationship Id="${id}" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/${kind}" Target="${target}"/>`;
  const relations = (inner: string) =>
    `<?xml version="1.0" encoding="UTF-8"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">${inner}</Relationships>`;
  const parts = {
    '[Content_Types].xml': '<Types/>',
    '_rels/.rels': relations(relation('rId1', 'officeDocument', 'xl/workbook.xml')),
    'xl/workbook.xml': `<workbook xmlns:r="r"><workbookPr/><sheets>${sheets ?? '<sheet name="Sheet1" sheetId="1" r:id="rId1"/>'}</sheets></workbook>`,
    'xl/_rels/workbook.xml.rels': relations(
      relation('rId1', 'worksheet', 'worksheets/sheet1.xml') +
        relation('rId2', 'worksheet', '/xl/worksheets/sheet2.xml') +
        (texts === undefined ? '' : relation('rId3', 'sharedStrings', 'sharedStrings.xml')) +
        (styles === undefined ? '' : relation('rId4', 'styles', 'styles.xml')),
    ),
    'xl/worksheets/sheet1.xml': `${head}<x:worksheet xmlns:x="x"><x:sheetData>${sheet.replace(/<(\/?)/g, '<$1x:')}</x:sheetData></x:worksheet>`,
    'xl/worksheets/sheet2.xml':
      '<worksheet><sheetData><row><c t="inlineStr"><is><t>to</t></is></c></row><row><c><v>6281234567899</v></c></row></sheetData></worksheet>',
    ...(texts === undefined ? {} : { 'xl/sharedStrings.xml': `<sst>${texts}</sst>` }),
    ...(styles === undefined ? {} : { 'xl/styles.xml': `<styleSheet>${styles}</styleSheet>` }),
  };
  return zip(parts, zipOptions);
}

interface XlsxParts {
  texts?: string;
  styles?: string;
  sheets?: string;
  /** What stands before the root of the sheet. */
  head?: string;
}
