import type { INestApplicationContext } from '@nestjs/common';
import { InvalidArgumentError } from 'commander';

/** Runs the work of a command with the services of the program, and closes them afterwards, also after an error. */
export type RunWithServices = (
  work: (services: Pick<INestApplicationContext, 'get'>) => Promise<void>,
) => Promise<void>;

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Prints a note for a person to standard error, so that a program that reads standard output does not get it. */
export function printAside(text: string): void {
  process.stderr.write(`${text}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2));
}

/** Prints rows under a head. Columns are as wide as their content. */
export async function printTable(head: string[], rows: (string | number | null)[][]): Promise<void> {
  const { default: Table } = await import('cli-table3');
  const table = new Table({ head, style: { head: [], border: [] } });
  table.push(...rows.map((row) => row.map((cell) => (cell === null ? '–' : String(cell)))));
  print(table.toString());
}

/** Prints a list as a table, or as JSON if `json` is true. `none` is the text for an empty list. */
export async function printList<Item>(
  items: Item[],
  { json = false, none, head, row }: ListShape<Item>,
): Promise<void> {
  if (json) printJson(items);
  else if (items.length === 0) print(none);
  else await printTable(head, items.map(row));
}

interface ListShape<Item> {
  json?: boolean;
  none: string;
  head: string[];
  row: (item: Item) => (string | number | null)[];
}

/** A commander parser for an option: a whole number from `min` to `max`. */
export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const number = Number(text);
    if (/^\d+$/.test(text) && number >= min && number <= max) return number;
    throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
  };
}

/** A commander parser for an option: seconds, also fractions. The parser returns milliseconds. */
export function seconds(min: number, max: number): (text: string) => number {
  return (text) => {
    const number = Number(text);
    if (/^\d+(\.\d+)?$/.test(text) && number >= min && number <= max) return Math.round(number * 1_000);
    throw new InvalidArgumentError(`It must be a number of seconds from ${min} to ${max}.`);
  };
}

/** Asks a yes-or-no question on the terminal. @throws Error that names `--force` if there is no terminal */
export async function confirm(question: string): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new Error(`${question} There is no terminal to answer on. Use --force to confirm.`);
  }
  const { createInterface } = await import('node:readline/promises');
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} (yes/no) [no] `)).trim());
  } finally {
    terminal.close();
  }
}
