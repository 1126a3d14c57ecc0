import cliProgress from 'cli-progress';
import Table from 'cli-table3';

/** The progress of some work. */
export interface Progress {
  done: number;
  total: number;
  note: string;
}

const isTerminal = process.stdout.isTTY;
/** `hasColors` respects NO_COLOR. */
const hasColour = isTerminal && process.stdout.hasColors();
/** Without a terminal, each progress prints a line this often. */
const lineEveryMs = 1_000;

export const bold = (text: string) => (hasColour ? `\u001b[1m${text}\u001b[0m` : text);
export const dim = (text: string) => (hasColour ? `\u001b[2m${text}\u001b[0m` : text);

export function say(text = ''): void {
  process.stdout.write(`${text}\n`);
}

/** Progress of several things at once: live bars on a terminal, plain lines elsewhere. */
export class ProgressBars {
  private readonly multibar: cliProgress.MultiBar | null;
  private readonly bars = new Map<string, cliProgress.SingleBar>();
  private readonly shown = new Map<string, { at: number; note: string }>();

  constructor(names: readonly string[]) {
    this.multibar = isTerminal
      ? new cliProgress.MultiBar({
          stream: process.stdout,
          format: '  {name} {bar} {note}',
          barsize: 20,
          barCompleteChar: '█',
          barIncompleteChar: '░',
          hideCursor: true,
          emptyOnZero: true,
          // The demo's own handler of Ctrl-C ends the bars.
          gracefulExit: false,
        })
      : null;
    const width = Math.max(...names.map(({ length }) => length));
    for (const name of names) {
      const bar = this.multibar?.create(1, 0, { name: name.padEnd(width), note: '' });
      if (bar) this.bars.set(name, bar);
    }
  }

  update(name: string, { done, total, note }: Progress): void {
    const bar = this.bars.get(name);
    if (!bar) return this.print(name, note, done >= total);
    bar.setTotal(total);
    bar.update(done, { note });
  }

  /** Leaves the bars on the screen and releases the terminal. */
  stop(): void {
    this.multibar?.stop();
  }

  private print(name: string, note: string, isDone: boolean): void {
    const last = this.shown.get(name);
    if (last?.note === note || (last && !isDone && Date.now() - last.at < lineEveryMs)) return;
    this.shown.set(name, { at: Date.now(), note });
    say(`  ${name}: ${note}`);
  }
}

/** A table with a header; every column except the first is aligned to the right. */
export function table(head: string[], rows: string[][]): string {
  const drawn = new Table({
    head,
    colAligns: ['left', ...head.slice(1).map(() => 'right' as const)],
    style: { head: [], border: [], compact: true },
  });
  drawn.push(...rows);
  return drawn.toString();
}
