import iconv from 'iconv-lite';
import { isAscii, isUtf8 } from 'node:buffer';
import { ListUnreadable } from './list-errors.js';

/** How much text after the first letter beyond ASCII tells UTF-8 from Windows-1252. */
const sampleBytes = 64 * 1024;
const markBytes = 4;

/** Converts the next bytes. It may keep the part of a letter for the next call. */
type Converter = (bytes: Buffer, isLast: boolean) => Buffer;

/**
 * Converts a text in the encoding of any spreadsheet to UTF-8 without a byte order mark: UTF-8, UTF-16, or Windows-1252, which
 * contains Latin-1. UTF-8 and Windows-1252 differ at the first letter beyond ASCII only, which may come after megabytes.
 * @throws ListUnreadable if the bytes are a known kind of file without text
 */
export async function* utf8Text(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let convert: Converter | null = null;
  let held: Buffer[] = [];
  let heldBytes = 0;
  /** How many bytes the next decision needs. The first decision needs the byte order mark. */
  let wanted = markBytes;
  for await (const chunk of source) {
    if (convert) {
      yield convert(chunk, false);
      continue;
    }
    held.push(chunk);
    heldBytes += chunk.length;
    if (heldBytes < wanted) continue;
    let bytes: Buffer = Buffer.concat(held);
    if (wanted === markBytes) convert = marked(bytes);
    if (!convert && wanted !== sampleBytes) {
      const begin = firstBeyondAscii(bytes);
      if (begin > 0) yield bytes.subarray(0, begin);
      bytes = bytes.subarray(begin);
      wanted = bytes.length > 0 ? sampleBytes : 1;
    }
    if (!convert && bytes.length >= sampleBytes) convert = guessed(bytes.subarray(0, sampleBytes), false);
    if (convert) yield convert(bytes, false);
    held = convert ? [] : [bytes];
    heldBytes = convert ? 0 : bytes.length;
  }
  const rest = Buffer.concat(held);
  convert ??= (wanted === markBytes ? marked(rest) : null) ?? guessed(rest, true);
  yield convert(rest, true);
}

/** The converter of a text whose first bytes tell its encoding. */
function marked(head: Buffer): Converter | null {
  const [a, b, c, d] = head;
  if (a === 0x50 && b === 0x4b && c === 0x03 && d === 0x04)
    throw new ListUnreadable(
      'The list is an XLSX file or another archive, but it was sent as text. Send an XLSX file with the Content-Type of XLSX, or save the list as CSV.',
    );
  if (a === 0xd0 && b === 0xcf && c === 0x11 && d === 0xe0)
    throw new ListUnreadable(
      'The list is an XLS file of an old program or has a password. Save it as XLSX or CSV without a password.',
    );
  if (a === 0xef && b === 0xbb && c === 0xbf) return afterMark();
  if (a === 0xff && b === 0xfe) return through('utf-16le');
  if (a === 0xfe && b === 0xff) return through('utf-16be');
  // Without a byte order mark: the names of columns begin with letters of ASCII.
  if (a && b === 0 && c && d === 0) return through('utf-16le');
  if (a === 0 && b && c === 0 && d) return through('utf-16be');
  return null;
}

/** The converter of a text with this sample, which begins at the first letter beyond ASCII. */
function guessed(sample: Buffer, isAll: boolean): Converter {
  if (isUtf8(sample) || (!isAll && endsWithinLetter(sample))) return unchanged;
  // A text in UTF-8 with a few broken letters, or in Windows-1252 with a few pairs of letters that look like UTF-8.
  const text = sample.toString('utf8');
  const broken = text.match(/\ufffd/g)?.length ?? 0;
  const letters = text.match(/[^\p{ASCII}\ufffd]/gu)?.length ?? 0;
  return letters > broken ? unchanged : through('windows-1252');
}

/** Whether the bytes are UTF-8 and end within a letter. */
function endsWithinLetter(bytes: Buffer): boolean {
  return [1, 2, 3].some((left) => {
    const begin = bytes.length - left;
    return begin >= 0 && bytes[begin]! >= 0xc2 && isUtf8(bytes.subarray(0, begin));
  });
}

/** Drops the byte order mark of UTF-8. */
function afterMark(): Converter {
  let isFirst = true;
  return (bytes) => {
    const begin = isFirst ? 3 : 0;
    isFirst = false;
    return bytes.subarray(begin);
  };
}

function unchanged(bytes: Buffer): Buffer {
  return bytes;
}

/** TextDecoder of Node.js 20 reads Windows-1252 as Latin-1, and loses €, – and quotes (nodejs/node#56542). */
function through(encoding: string): Converter {
  const decoder = iconv.getDecoder(encoding);
  return (bytes, isLast) => Buffer.from(decoder.write(bytes) + ((isLast && decoder.end()) || ''), 'utf8');
}

function firstBeyondAscii(bytes: Buffer): number {
  const found = isAscii(bytes) ? -1 : bytes.findIndex((byte) => byte >= 0x80);
  return found === -1 ? bytes.length : found;
}
