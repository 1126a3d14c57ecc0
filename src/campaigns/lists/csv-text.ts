/** A line of a CSV file. Values stay as they are: see {@link harmless}. */
export function csvLine(values: readonly string[]): string {
  return `${values.map(quoted).join(',')}\r\n`;
}

/** Keeps a spreadsheet from running a text as a formula: it gets an apostrophe. Numbers stay as they are. */
export function harmless(text: string): string {
  return /^[=@\t\r]|^[+-](?!\d+$)/.test(text) ? `'${text}` : text;
}

function quoted(value: string): string {
  return /[",;\t\r\n]|^\s|\s$/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
}
