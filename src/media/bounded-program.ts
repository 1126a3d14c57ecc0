import { spawn } from 'node:child_process';

/** The most processor time of one run. A minute of sound takes about a second, a photo of 48 megapixels four. */
const maxProcessorSeconds = 30;
/** The most memory that a run may take. */
const maxMemoryBytes = 1024 * 2 ** 20;
/** Of what the program says. */
const maxReportLength = 2_000;

export interface BoundedRun {
  program: string;
  arguments: string[];
  /**
   * What the limit of the memory counts: all addresses, or only the memory that the program can write. Node.js reserves much
   * more addresses than it uses.
   */
  memory: 'addresses' | 'data';
  /** The limit of each file that it writes. */
  maxFileBytes: number;
  timeoutMs: number;
}

/**
 * Runs a program with bounded time, memory and output, and without the environment of Flotilla.
 * @throws Error if it fails; with the code ENOENT if it is not there, ETIMEDOUT after the timeout
 */
export function runBounded(run: BoundedRun): Promise<void> {
  const { program, memory, maxFileBytes, timeoutMs } = run;
  const bounds = [
    `--${memory === 'data' ? 'data' : 'as'}=${maxMemoryBytes}`,
    `--fsize=${maxFileBytes}`,
    '--core=0',
    `--cpu=${maxProcessorSeconds}`,
  ];
  return new Promise((resolve, reject) => {
    // Last in line for a processor: a conversion may wait, requests and messages may not.
    const child = spawn('prlimit', [...bounds, 'nice', '-n', '19', program, ...run.arguments], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { PATH: process.env.PATH },
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    let report = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      report = (report + text).slice(0, maxReportLength);
    });
    child.once('error', reject);
    child.once('close', (status, signal) => {
      if (status === 0) return resolve();
      // `prlimit` and `nice` exit with 127 if they do not find the program.
      const code = status === 127 ? 'ENOENT' : child.killed ? 'ETIMEDOUT' : undefined;
      reject(Object.assign(new Error(`${program}: ${signal ?? status}: ${report.trim()}`), { code }));
    });
  });
}
