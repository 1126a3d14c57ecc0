import type { INestApplicationContext } from '@nestjs/common';
import { InvalidArgumentError } from 'commander';

/** What a command wants of the program: run something with its services, and end in good order whatever comes of it. */
export type RunWithServices = (
  work: (services: Pick<INestApplicationContext, 'get'>) => Promise<void>,
) => Promise<void>;

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** What is for a person's eye, and not for whatever reads the output. */
export function printAside(text: string): void {
  process.stderr.write(`${text}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2));
}

/** Prints rows under a head; on a terminal as wide as they need. */
export async function printTable(head: string[], rows: (string | number | null)[][]): Promise<void> {
  const { default: Table } = await import('cli-table3');
  const table = new Table({ head, style: { head: [], border: [] } });
  table.push(...rows.map((row) => row.map((cell) => (cell === null ? '–' : String(cell)))));
  print(table.toString());
}

/** Prints a list as a table, or as JSON where that is asked for. @param none what is said of an empty one */
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

/** A parser of an option for commander: a whole number in these bounds. */
export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const number = Number(text);
    if (/^\d+$/.test(text) && number >= min && number <= max) return number;
    throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
  };
}

/** A parser of an option for commander: seconds, also parts of one. @returns milliseconds */
export function seconds(min: number, max: number): (text: string) => number {
  return (text) => {
    const number = Number(text);
    if (/^\d+(\.\d+)?$/.test(text) && number >= min && number <= max) return Math.round(number * 1_000);
    throw new InvalidArgumentError(`It must be a number of seconds from ${min} to ${max}.`);
  };
}

/** Asks on the terminal. @throws Error naming `--force` where there is none to ask on */
export async function confirm(question: string): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new Error(`${question} There is no terminal to ask on: say yes with --force.`);
  }
  const { createInterface } = await import('node:readline/promises');
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} (yes/no) [no] `)).trim());
  } finally {
    terminal.close();
  }
}
