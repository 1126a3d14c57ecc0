import { type CsvError, parse, type Parser } from 'csv-parse';
import { listLimits } from './list-limits.js';
import { ListTooLarge, ListUnreadable } from './list-errors.js';
import type { TableLine } from './table-line.js';

const delimiters = [',', ';', '\t', '|'];
const lineEnd = /\r\n|\n|\r/g;

/**
 * Reads the lines of a CSV file. The delimiter is that of the first line, or of a line `sep=;` before it.
 * @param pieces the text in UTF-8
 * @param isNumberColumn whether this is the name of the column of the numbers
 * @throws ListTooLarge, ListUnreadable
 */
export async function* csvLines(
  pieces: AsyncIterable<Buffer>,
  isNumberColumn: (name: string) => boolean,
): AsyncGenerator<TableLine[]> {
  let head: Buffer | null = Buffer.alloc(0);
  let csv: CsvParser | null = null;
  for await (const piece of pieces) {
    if (csv) {
      yield await csv.lines(piece);
      continue;
    }
    head = Buffer.concat([head!, piece]);
    const start = startOf(head.toString('utf8'), isNumberColumn);
    if (!start && head.length <= listLimits.lineBytes) continue;
    if (!start) throw tooLong(1);
    csv = new CsvParser(start.delimiter, start.line);
    yield await csv.lines(head.subarray(start.offset));
    head = null;
  }
  if (!csv) {
    const start = startOf(`${head!.toString('utf8')}\n`, isNumberColumn) ?? {
      delimiter: ',',
      offset: 0,
      line: 1,
    };
    csv = new CsvParser(start.delimiter, start.line);
    yield await csv.lines(head!.subarray(start.offset));
  }
  yield await csv.lastLines();
}

interface Start {
  delimiter: string;
  /** Where the lines begin, after a line `sep=;`. */
  offset: number;
  line: number;
}

/** @returns null if the text does not hold the whole header */
function startOf(text: string, isNumberColumn: (name: string) => boolean): Start | null {
  const sep = /^"?sep=(.)"?[ \t]*(?:\r\n|\n|\r)/i.exec(text);
  const begin = sep?.[0].length ?? 0;
  const header = lineAfter(text.slice(begin));
  if (header === null) return null;
  const delimiter = sep?.[1] ?? delimiterOf(header, isNumberColumn);
  return { delimiter, offset: Buffer.byteLength(text.slice(0, begin)), line: sep ? 2 : 1 };
}

/** The first line that is not empty. Null if the line has no end. */
function lineAfter(text: string): string | null {
  const begin = text.search(/\S/);
  if (begin === -1) return null;
  let isQuoted = false;
  for (let index = begin; index < text.length; index += 1) {
    const letter = text[index];
    if (letter === '"') isQuoted = !isQuoted;
    else if (!isQuoted && (letter === '\n' || letter === '\r')) return text.slice(begin, index);
  }
  return null;
}

/** The delimiter that gives a column of numbers, else the most columns. */
function delimiterOf(header: string, isNumberColumn: (name: string) => boolean): string {
  const plain = header.replace(/"(?:[^"]|"")*"/g, (quoted) => quoted.replace(/[,;\t|]/g, ' '));
  const columns = (delimiter: string) => plain.split(delimiter);
  const byColumns = delimiters.toSorted((one, other) => columns(other).length - columns(one).length);
  const hasNumbers = (delimiter: string) =>
    columns(delimiter).some((name) => isNumberColumn(name.trim().replace(/^"(.*)"$/, '$1')));
  return byColumns.find(hasNumbers) ?? byColumns[0]!;
}

class CsvParser {
  private readonly parser: Parser;

  /** @param line the number of the next line */
  constructor(
    delimiter: string,
    private line: number,
  ) {
    this.parser = parse({
      delimiter,
      record_delimiter: ['\r\n', '\n', '\r'],
      // Text such as 5" is common in lists, and a space before a quote is common in lists that people type.
      relax_quotes: true,
      ltrim: true,
      relax_column_count: true,
      max_record_size: listLimits.lineBytes,
    });
    // The writes report the errors.
    this.parser.on('error', () => undefined);
  }

  async lines(piece: Buffer): Promise<TableLine[]> {
    const written = new Promise<void>((resolve, reject) =>
      this.parser.write(piece, (error) => (error ? reject(error) : resolve())),
    );
    const lines: TableLine[] = [];
    this.read(lines);
    try {
      await written;
    } catch (error) {
      throw this.problem(error);
    }
    this.read(lines);
    return lines;
  }

  async lastLines(): Promise<TableLine[]> {
    const lines: TableLine[] = [];
    this.parser.end();
    try {
      for await (const cells of this.parser) lines.push(this.next(cells as string[]));
    } catch (error) {
      throw this.problem(error);
    }
    return lines;
  }

  private read(lines: TableLine[]): void {
    for (
      let cells = this.parser.read() as string[] | null;
      cells !== null;
      cells = this.parser.read() as string[] | null
    )
      lines.push(this.next(cells));
  }

  private next(cells: string[]): TableLine {
    const { line } = this;
    this.line += 1;
    for (const cell of cells)
      if (cell.includes('\n') || cell.includes('\r')) this.line += cell.match(lineEnd)!.length;
    return { line, cells };
  }

  private problem(error: unknown): Error {
    const { code } = error as CsvError;
    if (code === 'CSV_MAX_RECORD_SIZE') return tooLong(this.line);
    if (code === 'CSV_QUOTE_NOT_CLOSED')
      return new ListUnreadable(
        `A quote (") opens in line ${this.line} and nothing closes it. Close the quote, or remove it.`,
      );
    return error as Error;
  }
}

function tooLong(line: number): ListTooLarge {
  return new ListTooLarge(
    `Line ${line} has more than ${listLimits.lineBytes} bytes. Shorten it. If the line is short, a quote (") in it has no closing quote: close it or remove it.`,
  );
}
