/** The limits of a list of recipients. Lengths are characters. */
export const listLimits = {
  /** A line with all its values, or one object of a JSON file, as UTF-8. */
  lineBytes: 65_536,
  columns: 256,
  /** The name of a column or of a variable. Forms use whole questions as names. */
  nameLength: 200,
  valueLength: 4_096,
  /** The variables of one recipient. */
  variables: 256,
} as const;

/** The limits of an XLSX file. A small file can unpack to a very large one. */
export const xlsxLimits = {
  fileBytes: 256 * 1024 * 1024,
  /** The files inside the XLSX file. */
  parts: 10_000,
  /** The unpacked sheet. */
  sheetBytes: 1024 * 1024 * 1024,
  /** The unpacked texts of all sheets. */
  textsBytes: 256 * 1024 * 1024,
  /** Each other unpacked part that is read: the list of sheets, the formats of cells. */
  partBytes: 16 * 1024 * 1024,
  /** How deep the elements of a part may lie in each other. */
  depth: 100,
  /** The texts of all sheets. They stay in memory while the sheet is read. */
  sharedTextBytes: 64 * 1024 * 1024,
  sharedTexts: 4_000_000,
  /** All values of the sheet together: many cells can show the same long text. */
  textLength: 1024 * 1024 * 1024,
} as const;

/** A batch ends with the line that reaches a limit. */
export const batchLimits = {
  lines: 1_000,
  /** All values together. */
  length: 1024 * 1024,
} as const;

/** How much of a file is read at once: it takes a few milliseconds. */
export const pieceBytes = 8 * 1024;
