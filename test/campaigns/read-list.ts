import { Readable } from 'node:stream';
import type { InvalidLine, ListRow, ValidLine } from '../../src/campaigns/lists/list-rows.js';
import { type ListOptions, readList } from '../../src/campaigns/lists/read-list.js';
import { Problem } from '../../src/platform/errors/problem.js';

export interface WholeList {
  header: readonly string[];
  rows: ListRow[];
}

type Options = Partial<ListOptions>;

/** Reads a list of bytes, in these pieces. */
export async function readPieces(pieces: Iterable<Uint8Array>, options: Options = {}): Promise<WholeList> {
  const source = Readable.from(
    (function* () {
      for (const piece of pieces) yield Buffer.from(piece);
    })(),
  );
  let header: readonly string[] = [];
  const rows: ListRow[] = [];
  const turn = () => Promise.resolve();
  for await (const batch of readList(source, { format: 'csv', country: 'ID', turn, ...options })) {
    ({ header } = batch);
    rows.push(...batch.rows);
  }
  return { header, rows };
}

/** Reads a whole list: a text is UTF-8. */
export function readWhole(list: string | Uint8Array, options: Options = {}): Promise<WholeList> {
  return readPieces([typeof list === 'string' ? Buffer.from(list) : list], options);
}

/** The valid lines of a list: the line, the number and the variables. */
export function recipients({
  rows,
}: WholeList): [line: number, to: string, variables: Record<string, string>][] {
  return rows
    .filter((row): row is ValidLine => row.isValid)
    .map(({ line, to, variables }) => [line, to, variables]);
}

export function invalid({ rows }: WholeList): InvalidLine[] {
  return rows.filter((row): row is InvalidLine => !row.isValid);
}

/** The problem of a list that cannot be read: `code: detail`. */
export async function problemOf(reading: Promise<unknown>): Promise<string> {
  try {
    await reading;
  } catch (error) {
    if (error instanceof Problem) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'no problem';
}
