import type { Readable } from 'node:stream';
import { isCountry } from '../../platform/http/phone-number.js';
import { csvLines } from './csv-lines.js';
import { jsonObjects, ndjsonObjects } from './json-objects.js';
import { JsonRows } from './json-rows.js';
import { type ColumnMapping, type ListColumns, listColumns, numberColumns } from './list-columns.js';
import { ListEmpty } from './list-errors.js';
import { batchLimits } from './list-limits.js';
import { type ListRow, tableRow } from './list-rows.js';
import { piecesOf, type TableLine } from './table-line.js';
import { utf8Text } from './utf8-text.js';
import { xlsxLines } from './xlsx-lines.js';

export type ListFormat = 'csv' | 'ndjson' | 'json' | 'xlsx';

export interface ListOptions {
  format: ListFormat;
  /** The names of the columns that the caller wants, with the names that the file has: `{ "to": "Nomor HP" }`. */
  columns?: ColumnMapping;
  /** ISO 3166 code of the country of numbers without a country code. */
  country: string | null;
  /** The name of the sheet of an XLSX file. By default it is the first visible sheet. */
  sheet?: string | null;
  /** Is awaited before each few milliseconds of work. */
  turn: () => Promise<void>;
}

/** At most 1,000 lines. */
export interface ListBatch {
  /** The names of the columns. With JSON it grows at the end, because each line can bring new variables. */
  header: readonly string[];
  rows: ListRow[];
}

/**
 * Reads a list of recipients of any size in the memory of a few batches. A wrong line becomes an invalid row. Empty lines are left
 * out. An error ends the reading and destroys the source; the batches before it are correct.
 * @throws ListColumnTwice, ListColumnUnknown, ListEmpty, ListNumberColumnUnclear, ListTooLarge, ListUnreadable, ListWithoutHeader,
 * and the errors of the source
 */
export async function* readList(source: Readable, options: ListOptions): AsyncGenerator<ListBatch> {
  const groups = options.format.endsWith('json') ? jsonGroups(source, options) : tableGroups(source, options);
  let rows: ListRow[] = [];
  let header: readonly string[] = [];
  let length = 0;
  let isEmpty = true;
  try {
    for await (const group of groups) {
      ({ header } = group);
      for (const row of group.rows) {
        rows.push(row);
        for (const value of row.values) length += value.length;
        if (rows.length < batchLimits.lines && length < batchLimits.length) continue;
        yield { header, rows };
        rows = [];
        length = 0;
        isEmpty = false;
      }
    }
    if (rows.length > 0) yield { header, rows };
    else if (isEmpty) throw new ListEmpty(emptyText(options.format, header));
  } finally {
    source.destroy();
  }
}

async function* tableGroups(source: Readable, options: ListOptions): AsyncGenerator<ListBatch> {
  const { columns: mapping = {}, turn, sheet = null } = options;
  const country = countryOf(options);
  const isNumberColumn = (name: string) => numberColumns([name], mapping).length > 0;
  const groups: AsyncIterable<TableLine[]> =
    options.format === 'xlsx'
      ? xlsxLines(source, sheet, turn)
      : csvLines(piecesOf(utf8Text(source), turn), isNumberColumn);
  let columns: ListColumns | null = null;
  for await (const lines of groups) {
    const rows: ListRow[] = [];
    for (const line of lines) {
      if (columns) {
        const row = tableRow(line, columns, country);
        if (row) rows.push(row);
      } else if (line.cells.some((cell) => cell.trim() !== '')) columns = listColumns(line, mapping, country);
    }
    if (columns) yield { header: columns.header, rows };
  }
}

async function* jsonGroups(source: Readable, options: ListOptions): AsyncGenerator<ListBatch> {
  const pieces = piecesOf(utf8Text(source), options.turn);
  const objects = options.format === 'json' ? jsonObjects(pieces) : ndjsonObjects(pieces);
  const json = new JsonRows(options.columns ?? {}, countryOf(options));
  for await (const group of objects) {
    const rows = group.map((listed) =>
      'object' in listed
        ? json.row(listed.line, listed.object)
        : json.unreadable(listed.line, listed.text, 'is not JSON: write one JSON object in each line'),
    );
    yield { header: json.header, rows };
  }
}

function countryOf({ country }: ListOptions) {
  return country !== null && isCountry(country) ? country : null;
}

function emptyText(format: ListFormat, header: readonly string[]): string {
  if (format === 'json')
    return 'The list has no recipients. Send {"recipients": [{"to": …, "variables": { … }}]} with at least one recipient.';
  if (format === 'ndjson')
    return 'The list has no lines. Send one JSON object in each line: {"to": …, "variables": { … }}.';
  return header.length === 0
    ? 'The list is empty. Send a header, for example to,name, and one line for each recipient.'
    : 'The list has a header and no lines below it. Add one line for each recipient.';
}
