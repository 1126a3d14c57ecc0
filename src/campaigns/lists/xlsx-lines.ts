import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import sax from 'sax';
import { type Entry, fromFdPromise, type ZipFile } from 'yauzl';
import { ListTooLarge, ListUnreadable, shortened } from './list-errors.js';
import { listLimits, xlsxLimits } from './list-limits.js';
import { piecesOf, type TableLine } from './table-line.js';
import { type CellContext, cellText, isDateFormat, SharedTexts, unescaped } from './xlsx-cells.js';

/** The last row and the number of columns of any sheet. */
const lastRow = 1_048_576;
const sheetColumns = 16_384;

/**
 * Reads the lines of one sheet of an XLSX file. The file is written to the disk first, because its index is at its end, and
 * the texts of the cells may follow the cells.
 * @param sheet the name of the sheet. Null: the first visible sheet
 * @throws ListTooLarge, ListUnreadable
 */
export async function* xlsxLines(
  source: AsyncIterable<Buffer>,
  sheet: string | null,
  turn: () => Promise<void>,
): AsyncGenerator<TableLine[]> {
  const directory = await mkdtemp(join(tmpdir(), 'flotilla-list-'));
  // The open file stays readable without its name, and the disk has it back however this process ends.
  const file = await open(join(directory, 'list.xlsx'), 'wx+').finally(() =>
    rm(directory, { recursive: true }),
  );
  try {
    await writeFile(file, bounded(source));
    const workbook = new Workbook(await openZip(file.fd), turn);
    yield* workbook.lines(sheet);
  } finally {
    await file.close();
  }
}

async function* bounded(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.length;
    if (bytes > xlsxLimits.fileBytes)
      throw new ListTooLarge(
        `An XLSX file may have at most ${xlsxLimits.fileBytes} bytes. Save the list as CSV, which may have any size.`,
      );
    yield chunk;
  }
}

async function openZip(fd: number): Promise<ZipFile> {
  try {
    return await fromFdPromise(fd, { autoClose: false });
  } catch (error) {
    throw damaged(error);
  }
}

interface XmlEvents {
  /** @param name without the prefix of its namespace */
  opens(name: string, attributes: Record<string, string>): void;
  /** The text may come in parts. */
  text?(text: string): void;
  closes?(name: string): void;
}

class Workbook {
  private parts: Map<string, Entry> | null = null;

  constructor(
    private readonly zip: ZipFile,
    private readonly turn: () => Promise<void>,
  ) {}

  async *lines(name: string | null): AsyncGenerator<TableLine[]> {
    this.parts = await this.index();
    const [main] = await this.related('', 'officeDocument');
    if (!main) throw damaged();
    const { sheets, is1904 } = await this.contents(main.path);
    const worksheets = await this.related(main.path, 'worksheet');
    const found = sheets.find((sheet) => (name === null ? sheet.isVisible : sheet.name === name));
    const path = worksheets.find(({ id }) => id === found?.id)?.path;
    if (path === undefined) {
      const names = sheets.map((sheet) => JSON.stringify(shortened(sheet.name))).slice(0, 20);
      throw new ListUnreadable(
        name === null
          ? 'The XLSX file has no visible sheet with cells. Save the list again.'
          : `The XLSX file has no sheet with this name. Its sheets are ${names.join(', ')}. Correct the name.`,
      );
    }
    const [styles] = await this.related(main.path, 'styles');
    const [texts] = await this.related(main.path, 'sharedStrings');
    yield* this.rows(path, {
      texts: await this.texts(texts?.path),
      dateStyles: await this.dateStyles(styles?.path),
      is1904,
    });
  }

  private async index(): Promise<Map<string, Entry>> {
    if (this.zip.entryCount > xlsxLimits.parts)
      throw new ListTooLarge(
        `The XLSX file holds more than ${xlsxLimits.parts} files. Save the list as CSV, or copy it to a new file.`,
      );
    const parts = new Map<string, Entry>();
    try {
      for await (const entry of this.zip.eachEntry()) parts.set(entry.fileName.toLowerCase(), entry);
    } catch (error) {
      throw damaged(error);
    }
    return parts;
  }

  /** The parts that a part refers to. */
  private async related(path: string, kind: string): Promise<{ id: string; path: string }[]> {
    const found: { id: string; path: string }[] = [];
    const { dir, base } = posix.parse(path);
    await this.read(posix.join(dir, '_rels', `${base}.rels`), {
      opens: (name, { Id: id, Target: target, Type: type }) => {
        if (name !== 'Relationship' || id === undefined || !target || !type?.endsWith(`/${kind}`)) return;
        found.push({ id, path: target.startsWith('/') ? target.slice(1) : posix.join(dir, target) });
      },
    });
    return found;
  }

  private async contents(path: string) {
    const sheets: { name: string; id: string; isVisible: boolean }[] = [];
    let is1904 = false;
    await this.read(path, {
      opens: (name, attributes) => {
        if (name === 'workbookPr') is1904 = /^(1|true)$/.test(attributes.date1904 ?? '');
        if (name !== 'sheet') return;
        const id = Object.entries(attributes).find(([key]) => key.endsWith(':id'))?.[1];
        const isVisible = (attributes.state ?? 'visible') === 'visible';
        if (id !== undefined) sheets.push({ name: attributes.name ?? '', id, isVisible });
      },
    });
    return { sheets, is1904 };
  }

  private async dateStyles(path: string | undefined): Promise<boolean[]> {
    const codes = new Map<number, string>();
    const styles: boolean[] = [];
    let isInStyles = false;
    if (path === undefined) return styles;
    await this.read(path, {
      opens: (name, attributes) => {
        if (name === 'numFmt') codes.set(Number(attributes.numFmtId), attributes.formatCode ?? '');
        else if (name === 'cellXfs') isInStyles = true;
        else if (name === 'xf' && isInStyles) {
          const id = Number(attributes.numFmtId ?? 0);
          styles.push(isDateFormat(id, codes.get(id)));
        }
      },
      closes: (name) => {
        if (name === 'cellXfs') isInStyles = false;
      },
    });
    return styles;
  }

  private async texts(path: string | undefined): Promise<SharedTexts> {
    const texts = new SharedTexts();
    if (path === undefined) return texts;
    const value = new CellValue();
    const events: XmlEvents = {
      opens: (name) => (name === 'si' ? value.clear() : value.opens(name)),
      text: (text) => value.add(text),
      closes: (name) => (name === 'si' ? texts.add(unescaped(value.text)) : value.closes(name)),
    };
    await this.read(path, events, xlsxLimits.textsBytes);
    return texts;
  }

  private async *rows(path: string, context: CellContext): AsyncGenerator<TableLine[]> {
    const lines: TableLine[] = [];
    let row: TableLine = { line: 0, cells: [] };
    let column = -1;
    let type = '';
    let style = 0;
    let textLength = 0;
    let rowLength = 0;
    const value = new CellValue();
    const place = (text: string) => {
      if (text === '') return;
      textLength += text.length;
      rowLength += text.length;
      if (rowLength > listLimits.lineBytes)
        throw new ListTooLarge(
          `Row ${row.line} has more than ${listLimits.lineBytes} characters. Shorten it.`,
        );
      if (textLength > xlsxLimits.textLength)
        throw new ListTooLarge(
          `The sheet has more than ${xlsxLimits.textLength} characters. Divide it into several files, or save it as CSV.`,
        );
      if (column >= listLimits.columns)
        throw new ListTooLarge(
          `Row ${row.line} has a value in column ${column + 1}, and a list may have at most ${listLimits.columns} columns. Delete columns.`,
        );
      while (row.cells.length < column) row.cells.push('');
      row.cells[column] = text;
    };
    const events: XmlEvents = {
      opens: (name, attributes) => {
        if (name === 'row') {
          const line = attributes.r === undefined ? row.line + 1 : Number(attributes.r);
          if (!(Number.isInteger(line) && line >= 1 && line <= lastRow)) throw damaged();
          row = { line, cells: [] };
          rowLength = 0;
          column = -1;
        } else if (name === 'c') {
          column = attributes.r === undefined ? column + 1 : columnOf(attributes.r);
          type = attributes.t ?? '';
          style = Number(attributes.s ?? 0);
          value.clear();
        } else value.opens(name);
      },
      text: (text) => value.add(text),
      closes: (name) => {
        if (name === 'c') place(cellText(type, style, value.text, context));
        else if (name === 'row') lines.push(row);
        else value.closes(name);
      },
    };
    yield* this.pieces(path, xlsxLimits.sheetBytes, events, () => lines.splice(0));
  }

  private async read(
    path: string,
    events: XmlEvents,
    maxBytes: number = xlsxLimits.partBytes,
  ): Promise<void> {
    const pieces = this.pieces(path, maxBytes, events, () => undefined);
    while (!(await pieces.next()).done);
  }

  /**
   * Reads a part of the file in pieces. The package stops a part that unpacks to more bytes than it says.
   * @param take what a piece gives
   */
  private async *pieces<Taken>(
    path: string,
    maxBytes: number,
    events: XmlEvents,
    take: () => Taken,
  ): AsyncGenerator<Taken> {
    const entry = this.parts?.get(path.toLowerCase());
    if (!entry) throw damaged();
    if (entry.uncompressedSize > maxBytes)
      throw new ListTooLarge(
        `A part of the XLSX file unpacks to more than ${maxBytes} bytes. Divide the list, or save it as CSV.`,
      );
    const parser = xmlParser(events);
    const decoder = new TextDecoder('utf-8');
    for await (const piece of piecesOf(this.unpacked(entry), this.turn)) {
      parser.write(decoder.decode(piece, { stream: true }));
      yield take();
    }
    parser.close();
    yield take();
  }

  private async *unpacked(entry: Entry): AsyncGenerator<Buffer> {
    try {
      yield* (await this.zip.openReadStreamPromise(entry)) as AsyncIterable<Buffer>;
    } catch (error) {
      throw damaged(error);
    }
  }
}

/** The text of a cell or of a shared text. Furigana (`rPh`) say how to read the text, and are no part of it. */
class CellValue {
  text = '';
  private isOpen = false;
  private isFurigana = false;

  clear(): void {
    this.text = '';
    this.isFurigana = false;
    this.isOpen = false;
  }

  opens(name: string): void {
    if (name === 'rPh') this.isFurigana = true;
    this.isOpen = !this.isFurigana && (name === 'v' || name === 't');
  }

  add(text: string): void {
    // A longer value is invalid, whatever follows.
    if (this.isOpen) this.text = (this.text + text).slice(0, listLimits.valueLength + 1);
  }

  closes(name: string): void {
    if (name === 'rPh') this.isFurigana = false;
    this.isOpen = false;
  }
}

function xmlParser({ opens, text, closes }: XmlEvents): sax.SAXParser {
  const parser = sax.parser(true, { position: false });
  parser.onerror = (error) => {
    throw damaged(error);
  };
  // A document type can define entities that grow without end. Spreadsheets have none.
  parser.ondoctype = () => {
    throw damaged();
  };
  let depth = 0;
  parser.onopentag = ({ name, attributes }) => {
    depth += 1;
    // The parser remembers every open element.
    if (depth > xlsxLimits.depth) throw damaged();
    opens(localName(name), attributes as Record<string, string>);
  };
  parser.onclosetag = (name) => {
    depth -= 1;
    closes?.(localName(name));
  };
  if (text) parser.ontext = parser.oncdata = text;
  return parser;
}

function localName(name: string): string {
  const colon = name.indexOf(':');
  return colon === -1 ? name : name.slice(colon + 1);
}

/** The column of a cell, counted from 0: that of `B7` is 1. */
function columnOf(reference: string): number {
  let column = 0;
  for (let index = 0; index < reference.length; index += 1) {
    const letter = reference.charCodeAt(index) - 64;
    if (letter < 1 || letter > 26) break;
    column = column * 26 + letter;
    if (column > sheetColumns) break;
  }
  if (column < 1 || column > sheetColumns) throw damaged();
  return column - 1;
}

/** @param cause what a library says about the file */
function damaged(cause?: unknown): unknown {
  // The disk has failed, not the file.
  if (cause instanceof Error && 'syscall' in cause) return cause;
  const problem = new ListUnreadable(
    'The file is not an XLSX file, is damaged, or has a password. Save the list again as XLSX without a password, or as CSV.',
  );
  problem.cause = cause;
  return problem;
}
