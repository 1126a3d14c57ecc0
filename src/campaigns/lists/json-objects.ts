import { JSONParser } from '@streamparser/json';
import { listLimits } from './list-limits.js';
import { ListTooLarge, ListUnreadable } from './list-errors.js';

/** An object of a list, or the text that is no JSON. */
export type ListedObject = { line: number } & ({ object: unknown } | { text: string });

/** Reads the lines of NDJSON. The number is that of the line in the file. */
export async function* ndjsonObjects(pieces: AsyncIterable<Buffer>): AsyncGenerator<ListedObject[]> {
  let line = 0;
  let rest = '';
  const decoder = new TextDecoder('utf-8');
  for await (const piece of pieces) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split('\n');
    rest = lines.pop()!;
    if (rest.length > listLimits.lineBytes) throw tooLong(`Line ${line + lines.length + 1}`);
    yield lines.flatMap((text) => ndjsonObject(++line, text));
  }
  yield ndjsonObject(line + 1, rest + decoder.decode());
}

function ndjsonObject(line: number, text: string): ListedObject[] {
  if (text.trim() === '') return [];
  try {
    return [{ line, object: JSON.parse(text) as unknown }];
  } catch {
    return [{ line, text }];
  }
}

/**
 * Reads the objects of `{ "recipients": [ … ] }`. The first object has the number 1.
 * @throws ListTooLarge, ListUnreadable
 */
export async function* jsonObjects(pieces: AsyncIterable<Buffer>): AsyncGenerator<ListedObject[]> {
  let line = 0;
  let objects: ListedObject[] = [];
  let bytes = 0;
  const parser = new JSONParser({ paths: ['$.recipients.*'], keepStack: false });
  parser.onValue = ({ value, parent }) => {
    if (!Array.isArray(parent)) throw unreadable(line, '"recipients" is not a list');
    line += 1;
    bytes = 0;
    objects.push({ line, object: value });
  };
  const failed = (error: unknown) =>
    error instanceof ListUnreadable ? error : unreadable(line, (error as Error).message);
  for await (const piece of pieces) {
    bytes += piece.length;
    try {
      parser.write(piece);
    } catch (error) {
      throw failed(error);
    }
    if (bytes > listLimits.lineBytes) throw tooLong(`Recipient ${line + 1}`);
    yield objects;
    objects = [];
  }
  try {
    if (!parser.isEnded) parser.end();
  } catch (error) {
    throw failed(error);
  }
  yield objects;
}

function tooLong(what: string): ListTooLarge {
  return new ListTooLarge(`${what} has more than ${listLimits.lineBytes} bytes. Shorten its variables.`);
}

function unreadable(line: number, problem: string): ListUnreadable {
  const text = problem.replace(/\.$/, '');
  return new ListUnreadable(
    `The list cannot be read as JSON after recipient ${line}: ${text}. Send {"recipients": [{"to": …, "variables": { … }}]}.`,
  );
}
