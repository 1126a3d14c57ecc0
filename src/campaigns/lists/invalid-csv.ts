import { csvLine, harmless } from './csv-text.js';
import type { InvalidLine } from './list-rows.js';

const reasonColumn = 'reason';

/**
 * The invalid lines of a list as a CSV file with the columns of the list and the column `reason`: people correct the lines, and
 * send the file again.
 * @param header of the last batch of the list
 * @returns parts of the file, in UTF-8 with a byte order mark, so that Excel opens it
 */
export async function* invalidCsv(
  header: readonly string[],
  rows:
    | AsyncIterable<Pick<InvalidLine, 'column' | 'reason' | 'values'>>
    | Iterable<Pick<InvalidLine, 'column' | 'reason' | 'values'>>,
): AsyncGenerator<string> {
  // A corrected file has the column already. Its reasons are old.
  const isAgain = header.at(-1)?.trim().toLowerCase() === reasonColumn;
  const own = isAgain ? header.slice(0, -1) : header;
  const taken = new Set(own.map((name) => name.trim().toLowerCase()));
  const name = taken.has(reasonColumn) ? `${reasonColumn} (Flotilla)` : reasonColumn;
  yield `\ufeff${csvLine([...own, name])}`;
  for await (const { column, reason, values } of rows) {
    const cells = own.map((_name, position) => values[position] ?? '');
    yield csvLine([...cells, harmless(column === null ? reason : `${column}: ${reason}`)]);
  }
}
