import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';

interface Batch {
  lines: string[];
  written: Promise<void>;
  settle: (error?: unknown) => void;
}

/** Where a line is in its file. `written` resolves when the operating system has the bytes. */
export interface JournalLine {
  offset: number;
  length: number;
  written: Promise<void>;
}

/**
 * An append-only file of one JSON document per line.
 *
 * All appends in one turn of the event loop share one write, in order. When the file is opened, an unfinished last line,
 * which a killed process left, is cut off, so that the next line starts at the beginning of a line.
 */
export class Journal {
  private batch: Batch | undefined;
  private draining: Promise<void> | undefined;
  private closed = false;

  private constructor(
    readonly path: string,
    private handle: FileHandle,
    private writtenBytes: number,
    private endBytes: number,
  ) {}

  /** Opens the file, or creates it with its directory, and calls `onLine` for every complete line, in order. */
  static async open(
    path: string,
    onLine: (line: string, offset: number, length: number) => void,
  ): Promise<Journal> {
    await mkdir(dirname(path), { recursive: true });
    const handle = await open(path, 'a+', 0o600);
    let end = 0;
    let rest: Buffer<ArrayBufferLike> = Buffer.alloc(0);
    for await (const chunk of createReadStream(path)) {
      const bytes: Buffer<ArrayBufferLike> =
        rest.length > 0 ? Buffer.concat([rest, chunk as Buffer]) : (chunk as Buffer);
      let start = 0;
      for (let newline = bytes.indexOf(10, start); newline >= 0; newline = bytes.indexOf(10, start)) {
        const length = newline + 1 - start;
        try {
          onLine(bytes.toString('utf8', start, newline), end, length);
        } catch (cause) {
          await handle.close();
          throw new Error(`${path} is damaged at byte ${end}: repair that line or move the file away.`, {
            cause,
          });
        }
        end += length;
        start = newline + 1;
      }
      rest = bytes.subarray(start);
    }
    await handle.truncate(end);
    return new Journal(path, handle, end, end);
  }

  /** The size of the file with the lines that are not written yet. */
  get size(): number {
    return this.endBytes;
  }

  /** The size of the part that the operating system already has. */
  get writtenSize(): number {
    return this.writtenBytes;
  }

  /** Adds a line, which must not contain a newline. */
  append(line: string): JournalLine {
    if (this.closed) throw new Error(`${this.path} is closed.`);
    const length = Buffer.byteLength(line) + 1;
    const offset = this.endBytes;
    this.endBytes += length;
    this.batch ??= newBatch();
    this.batch.lines.push(line);
    const { written } = this.batch;
    this.draining ??= this.drain();
    return { offset, length, written };
  }

  /** Resolves when everything that was appended so far is written. */
  async flush(): Promise<void> {
    while (this.draining) await this.draining;
  }

  /** Empties the file. `onEmpty` runs just before the first append that starts at offset 0 again. */
  async clear(onEmpty: () => void): Promise<void> {
    await this.flush();
    this.writtenBytes = 0;
    this.endBytes = 0;
    onEmpty();
    await this.exclusively(this.handle.truncate(0));
  }

  /**
   * Replaces the content by the lines of `snapshot`, atomically: after a crash there is either the old file or the new one.
   * Lines that are appended meanwhile follow the snapshot.
   */
  async rewrite(snapshot: () => string[]): Promise<void> {
    await this.flush();
    await this.exclusively(this.replaceFile(snapshot()));
  }

  /** Writes the remaining lines and closes the file; later appends throw. */
  async close(): Promise<void> {
    this.closed = true;
    await this.flush();
    await this.handle.close();
  }

  private async replaceFile(lines: string[]): Promise<void> {
    const next = await open(`${this.path}.new`, 'w', 0o600);
    let size = 0;
    try {
      const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
      await next.writeFile(bytes);
      await next.datasync();
      size = bytes.length;
    } finally {
      await next.close();
    }
    await rename(`${this.path}.new`, this.path);
    const previous = this.handle;
    this.handle = await open(this.path, 'a+', 0o600);
    await previous.close();
    const waiting = this.endBytes - this.writtenBytes;
    this.writtenBytes = size;
    this.endBytes = size + waiting;
  }

  /** Makes appends wait until `work` has ended. */
  private async exclusively(work: Promise<void>): Promise<void> {
    const resume = (): Promise<void> | undefined => {
      this.draining = this.batch ? this.drain() : undefined;
      return this.draining;
    };
    this.draining = work.then(resume, resume);
    await work;
  }

  private async drain(): Promise<void> {
    // Waits one turn of the event loop, so that lines from several sockets share one write.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.batch) {
      const batch = this.batch;
      this.batch = undefined;
      const bytes = Buffer.from(batch.lines.join('\n') + '\n');
      try {
        await this.handle.appendFile(bytes);
        this.writtenBytes += bytes.length;
        batch.settle();
      } catch (error) {
        // The next line must not follow half a batch; and the offsets of the waiting lines are wrong now.
        await this.handle.truncate(this.writtenBytes).catch(() => undefined);
        this.endBytes = this.writtenBytes;
        const waiting = this.batch as Batch | undefined;
        this.batch = undefined;
        batch.settle(error);
        waiting?.settle(error);
      }
    }
    this.draining = undefined;
  }
}

function newBatch(): Batch {
  let settle: Batch['settle'] = () => undefined;
  const written = new Promise<void>((resolve, reject) => {
    settle = (error) => {
      if (error === undefined) resolve();
      else reject(error instanceof Error ? error : new Error(String(error)));
    };
  });
  // Not every caller waits for the write. A caller that waits still gets the rejection.
  written.catch(() => undefined);
  return { lines: [], written, settle };
}
