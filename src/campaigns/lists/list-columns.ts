import type { CountryCode } from 'libphonenumber-js/max';
import {
  ListColumnTwice,
  ListColumnUnknown,
  ListNumberColumnUnclear,
  ListTooLarge,
  ListWithoutHeader,
} from './list-errors.js';
import { listLimits } from './list-limits.js';
import { listedPerson } from './listed-person.js';
import type { TableLine } from './table-line.js';

/** Names of the column of the numbers in the four languages, without spaces and accents. A name of an earlier group wins. */
const numberNames = [
  'to',
  'whatsapp whatsappnumber whatsappno whatsappid nomorwhatsapp nowhatsapp nomorwa nowa wa numerowhatsapp numerodewhatsapp waid',
  'phone phonenumber phoneno mobile mobilenumber mobilephone mobileno cell cellphone cellnumber cellphonenumber tel telephone telephonenumber msisdn recipient phone1value primaryphone ' +
    'telepon nomortelepon notelepon notelp telp telpon nomortelpon nohp nomorhp hp handphone nomorhandphone nohandphone ponsel nomorponsel ' +
    'telefono numerodetelefono numerotelefono telefonocelular telefonomovil celular numerodecelular movil numeromovil cel ' +
    'telefone numerodetelefone numerotelefone telefonecelular telemovel fone numerocelular numerodocelular',
  'number contactnumber nomor nomorkontak numero',
].map((names) => new Set(names.split(' ')));

/** The names of columns that the caller wants, with the names that the file has. */
export type ColumnMapping = Readonly<Record<string, string>>;

/** The name of a variable: case, accents typed in another way, and spaces around it make no difference. */
export function variableName(name: string): string {
  // Most names need no change, and JSON repeats them in each line.
  if (/^[a-z\d_]+$/.test(name)) return name;
  return name.normalize('NFC').trim().replace(/\s+/g, ' ').toLowerCase();
}

/** The key of the column of the numbers in a mapping. */
export const numberKey = 'to';

/** Which of these names is that of the numbers. More than one if it is unclear. */
export function numberColumns(names: readonly string[], mapping: ColumnMapping): number[] {
  const mapped = mapping[numberKey];
  const positions = [...names.keys()];
  if (mapped !== undefined)
    return positions.filter((position) => variableName(names[position]!) === variableName(mapped));
  const plainNames = names.map(plainName);
  for (const group of numberNames) {
    const found = positions.filter((position) => group.has(plainNames[position]!));
    if (found.length > 0) return found;
  }
  return [];
}

function plainName(name: string): string {
  if (/^[a-z\d]+$/.test(name)) return name;
  return name
    .normalize('NFKD')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]/gu, '');
}

/** The columns of a table. */
export interface ListColumns {
  /** The names as the file has them, trimmed. A column without a name has an empty one. */
  header: string[];
  number: number;
  variables: { position: number; name: string }[];
}

/**
 * Reads the columns from the first line of a table.
 * @throws ListColumnTwice, ListColumnUnknown, ListNumberColumnUnclear, ListTooLarge, ListWithoutHeader
 */
export function listColumns(
  { line, cells }: TableLine,
  mapping: ColumnMapping,
  country: CountryCode | null,
): ListColumns {
  const header = trimmedEnd(cells.map((cell) => cell.trim()));
  const numbers = numberColumns(header, mapping);
  const [number] = numbers;
  if (number === undefined && header.some((cell) => isNumber(cell, country)))
    throw new ListWithoutHeader(line);
  checkLimits(header);
  const names = header.map(variableName);
  const byFile = new Map(
    Object.entries(mapping).map(([wanted, inFile]) => [variableName(inFile), variableName(wanted)]),
  );
  for (const inFile of Object.values(mapping))
    if (!names.includes(variableName(inFile))) throw new ListColumnUnknown(inFile, header);
  const wanted = names.map((name) => byFile.get(name) ?? name);
  const twice = wanted.findIndex((name, position) => name !== '' && wanted.indexOf(name) !== position);
  if (twice !== -1) throw new ListColumnTwice(wanted[twice]!);
  if (number === undefined || numbers.length > 1)
    throw new ListNumberColumnUnclear(
      header,
      numbers.map((position) => header[position]!),
    );
  const variables = wanted
    .map((name, position) => ({ position, name }))
    .filter(({ name, position }) => name !== '' && position !== number);
  return { header, number, variables };
}

function checkLimits(header: readonly string[]): void {
  if (header.length > listLimits.columns)
    throw new ListTooLarge(
      `The list has ${header.length} columns, and a list may have at most ${listLimits.columns}. Delete columns.`,
    );
  const long = header.findIndex((name) => name.length > listLimits.nameLength);
  if (long !== -1)
    throw new ListTooLarge(
      `The name of column ${long + 1} has ${header[long]!.length} characters, and a name may have at most ${listLimits.nameLength}. Shorten it.`,
    );
}

/** Without the empty names that trailing separators make. */
function trimmedEnd(header: string[]): string[] {
  return header.slice(0, header.findLastIndex((name) => name !== '') + 1);
}

function isNumber(cell: string, country: CountryCode | null): boolean {
  const digits = cell.replace(/\D/g, '').length;
  return digits >= 7 && (typeof listedPerson(cell, country) !== 'string' || /^[+\d\s().'-]+$/.test(cell));
}
