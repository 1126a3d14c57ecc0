import { pieceBytes } from './list-limits.js';

/** One line of a table: a CSV file or the sheet of an XLSX file. */
export interface TableLine {
  /** The first line of the file is 1. A value of a CSV file may span lines. */
  line: number;
  cells: string[];
}

/**
 * Divides a source into pieces of a few milliseconds of work, and waits for a turn before each piece. It gathers small chunks: the
 * work for a piece can grow with the text before it.
 */
export async function* piecesOf(
  source: AsyncIterable<Buffer>,
  turn: () => Promise<void>,
): AsyncGenerator<Buffer> {
  let held: Buffer[] = [];
  let heldBytes = 0;
  for await (const chunk of source) {
    held.push(chunk);
    heldBytes += chunk.length;
    if (heldBytes < pieceBytes) continue;
    const bytes = held.length === 1 ? chunk : Buffer.concat(held);
    for (let begin = 0; begin < bytes.length; begin += pieceBytes) {
      await turn();
      yield bytes.subarray(begin, begin + pieceBytes);
    }
    held = [];
    heldBytes = 0;
  }
  if (heldBytes === 0) return;
  await turn();
  yield Buffer.concat(held);
}
