import { pieceBytes } from './list-limits.js';

/** One line of a table: a CSV file or the sheet of an XLSX file. */
export interface TableLine {
  /** The first line of the file is 1. A value of a CSV file may span lines. */
  line: number;
  cells: string[];
}

/** Divides a source into pieces of a few milliseconds of work, and waits for a turn before each piece. */
export async function* piecesOf(
  source: AsyncIterable<Buffer>,
  turn: () => Promise<void>,
): AsyncGenerator<Buffer> {
  for await (const chunk of source) {
    for (let begin = 0; begin < chunk.length; begin += pieceBytes) {
      await turn();
      yield chunk.subarray(begin, begin + pieceBytes);
    }
  }
}
