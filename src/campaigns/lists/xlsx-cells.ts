import { ListTooLarge } from './list-errors.js';
import { listLimits, xlsxLimits } from './list-limits.js';

const dayMs = 86_400_000;
/** The first serial number that is no date: 10000-01-01. */
const endOfDates = 2_958_466;
/** Numbers of formats that every spreadsheet program knows as dates or times. */
const dateFormats = [
  [14, 22],
  [27, 36],
  [45, 47],
  [50, 58],
] as const;

/** What the cells of a workbook refer to. */
export interface CellContext {
  texts: SharedTexts;
  /** By the number of a style: whether it shows a date or a time. */
  dateStyles: readonly boolean[];
  /** Whether days count from 1904, as old programs of the Macintosh count them. */
  is1904: boolean;
}

/** The value of a cell as text: numbers in full, dates as ISO 8601, formulas by their last result. */
export function cellText(type: string, style: number, text: string, context: CellContext): string {
  switch (type) {
    case 's':
      return context.texts.get(Number(text));
    case 'b':
      return text === '1' ? 'true' : 'false';
    case 'e':
    case 'd':
      return text;
    case 'str':
    case 'inlineStr':
      return unescaped(text);
    default:
      return text !== '' && context.dateStyles[style]
        ? dateText(Number(text), context.is1904)
        : numberText(text);
  }
}

/** Whether a format of numbers shows a date or a time. */
export function isDateFormat(id: number, code: string | undefined): boolean {
  if (code === undefined) return dateFormats.some(([first, last]) => id >= first && id <= last);
  // Colours, conditions, quoted text and single quoted letters show no part of the number.
  const [positive = ''] = code.replace(/"[^"]*"|\[[^\]]*\]|[\\_*]./g, '').split(';');
  return /[dhmsy]/i.test(positive);
}

/** Replaces the escapes `_x000D_` of letters that XML cannot hold. */
export function unescaped(text: string): string {
  return text.includes('_x')
    ? text.replace(/_x([\da-f]{4})_/gi, (_escape, code: string) => String.fromCharCode(parseInt(code, 16)))
    : text;
}

/** A number without the noise of its binary form and, if it is exact, without an exponent. */
function numberText(text: string): string {
  const number = Number(text);
  // A spreadsheet keeps 15 digits.
  return Number.isInteger(number) && Math.abs(number) >= 1e15 ? text : String(number);
}

function dateText(serial: number, is1904: boolean): string {
  if (!(serial >= 0 && serial < endOfDates)) return String(serial);
  const seconds = Math.round(serial * 86_400);
  const days = Math.floor(seconds / 86_400);
  const time = new Date((seconds % 86_400) * 1000).toISOString().slice(11, 19);
  if (days === 0) return time;
  // The serial numbers count a 29 February 1900, a day that never existed.
  const epoch = is1904 ? Date.UTC(1904, 0, 1) : Date.UTC(1899, 11, days < 60 ? 31 : 30);
  const date = new Date(epoch + days * dayMs).toISOString().slice(0, 10);
  return seconds % 86_400 === 0 ? date : `${date}T${time}`;
}

/** The texts that the cells of a workbook share, in little memory. */
export class SharedTexts {
  private bytes = Buffer.alloc(64 * 1024);
  private readonly ends: number[] = [];

  /** @throws ListTooLarge */
  add(text: string): void {
    // A longer value is invalid, whatever follows.
    const kept = text.slice(0, listLimits.valueLength + 1);
    const begin = this.ends.at(-1) ?? 0;
    const end = begin + Buffer.byteLength(kept);
    if (end > xlsxLimits.sharedTextBytes || this.ends.length >= xlsxLimits.sharedTexts)
      throw new ListTooLarge(
        `The file has more than ${xlsxLimits.sharedTexts} different texts, or more than ${xlsxLimits.sharedTextBytes} bytes of them. Save the list as CSV.`,
      );
    if (end > this.bytes.length) {
      const larger = Buffer.alloc(Math.max(end, this.bytes.length * 2));
      this.bytes.copy(larger);
      this.bytes = larger;
    }
    this.bytes.write(kept, begin);
    this.ends.push(end);
  }

  get(index: number): string {
    const end = this.ends[index];
    return end === undefined ? '' : this.bytes.toString('utf8', this.ends[index - 1] ?? 0, end);
  }
}
