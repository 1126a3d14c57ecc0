import type { CountryCode } from 'libphonenumber-js/max';
import { storable } from '../../messages/storable-text.js';
import { type ListColumns } from './list-columns.js';
import { shortened } from './list-errors.js';
import { listLimits } from './list-limits.js';
import { listedPerson } from './listed-person.js';
import type { TableLine } from './table-line.js';

/** A line of a list that names a recipient. */
export interface ValidLine {
  isValid: true;
  line: number;
  /** The digits of the number with country code, or the id of a hidden number (`…@lid`). */
  to: string;
  /** Equal for two lines that name the same person, also if they hold different forms of the number. */
  person: string;
  /** By the names that `variableName` gives. A variable without a value is left out. The object has no prototype: `constructor` is a name like others. */
  variables: Record<string, string>;
  /** What the line holds, in the order of the header. Values may be missing at the end. */
  values: string[];
}

/** A line of a list that names no recipient. */
export interface InvalidLine {
  isValid: false;
  line: number;
  /** The name of the column in the file. Null if the whole line is wrong. */
  column: string | null;
  /** The wrong value. It may be shortened. */
  value: string;
  /** What is wrong with the value of the column, and the cure: `has … characters`. */
  reason: string;
  values: string[];
}

export type ListRow = ValidLine | InvalidLine;

/** What a wrong value shows at most. */
const shownLength = 200;
const spreadsheetErrors = /^#(?:N\/A|REF!|VALUE!|NAME\?|DIV\/0!|NULL!|NUM!|SPILL!|CALC!|ERROR!)$/i;

export function invalidLine(
  line: number,
  column: string | null,
  value: string,
  reason: string,
  values: string[],
): InvalidLine {
  return {
    isValid: false,
    line,
    column,
    value: storable(shortened(value, shownLength)),
    reason,
    values: values.map((each) => storable(shortened(each, listLimits.valueLength))),
  };
}

/** Why a text cannot be the value of a variable. Null if it can. */
export function valueProblem(value: string): string | null {
  if (value.length > listLimits.valueLength)
    return `has more than ${listLimits.valueLength} characters, the most that a value may have: shorten it`;
  if (value.includes('\ufffd'))
    return 'has a letter that cannot be read: save the list as UTF-8 (in Excel "CSV UTF-8"), and correct the letter';
  if (value.startsWith('#') && spreadsheetErrors.test(value))
    return 'is an error of a formula of the spreadsheet: correct the formula, or delete the value';
  return null;
}

/** Variables by name, without the names of the prototype of objects. */
export function noVariables(): Record<string, string> {
  return Object.create(null) as Record<string, string>;
}

function isStorable(text: string): boolean {
  return !text.includes('\0') && text.isWellFormed();
}

/** The recipient of a line of a table. Null if the line is empty. */
export function tableRow(
  { line, cells: raw }: TableLine,
  { header, number, variables: columns }: ListColumns,
  country: CountryCode | null,
): ListRow | null {
  const last = raw.findLastIndex((cell) => cell.trim() !== '');
  if (last === -1) return null;
  // A line may have thousands of empty values at its end.
  const kept = raw.length > header.length ? raw.slice(0, Math.max(header.length, last + 1)) : raw;
  const cells = kept.every(isStorable) ? kept : kept.map(storable);
  if (last >= header.length)
    return invalidLine(
      line,
      null,
      cells[last]!,
      `has a value in column ${last + 1}, and the header names ${header.length} columns: put quotes around a value that contains the separator, or name the column`,
      cells.slice(0, listLimits.columns),
    );
  const to = (cells[number] ?? '').trim();
  const person = listedPerson(to, country);
  if (typeof person === 'string') return invalidLine(line, header[number]!, to, person, cells);
  const variables = noVariables();
  for (const { position, name } of columns) {
    const value = (cells[position] ?? '').trim();
    if (value === '') continue;
    const problem = valueProblem(value);
    if (problem !== null) return invalidLine(line, header[position]!, value, problem, cells);
    variables[name] = value;
  }
  return { isValid: true, line, to: person.to, person: person.person, variables, values: cells };
}
