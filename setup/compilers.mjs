/**
 * The TypeScript compilers of `npm run dev`: they compile on change into a `dist` that stays where it is.
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { stripVTControlCharacters } from 'node:util';
import { colour } from './console.mjs';
import { tiedToThisProcess } from './processes.mjs';
import { parseJson } from './json.mjs';

/** The tsconfig of the sandbox's page, which browsers read. */
const PAGE_TSCONFIG = 'src/sandbox/page/tsconfig.json';

/** @typedef {'busy' | 'built' | 'failed'} CompilerState */

/**
 * The state that a compiler reports with this line; undefined when it is an ordinary line.
 *
 * @param {string} line without colours
 * @returns {CompilerState | undefined}
 */
export function reportedState(line) {
  if (
    / (File change detected\. Starting incremental compilation|Starting compilation in watch mode)\.\.\.$/.test(
      line,
    )
  )
    return 'busy';
  const [, errors] = / Found (\d+) errors?\. Watching for file changes\.$/.exec(line) ?? [];
  if (errors === undefined) return undefined;
  return errors === '0' ? 'built' : 'failed';
}

export class Compilers {
  /** @type {Map<string, CompilerState>} */
  #states = new Map();
  /** What each has said since its last state. @type {Map<string, string[]>} */
  #lines = new Map();
  /** @type {import('node:child_process').ChildProcess[]} */
  #children = [];
  #stopped = false;

  /**
   * @param {object} options
   * @param {string} options.project
   * @param {string} options.varDir
   * @param {(text: string) => void} options.print what a compiler says about the sources
   * @param {() => void} options.onStart something is compiled
   * @param {(state: 'built' | 'failed') => void} options.onEnd everything is compiled
   * @param {(name: string) => void} options.onExit a compiler ended by itself
   */
  constructor(options) {
    this.options = options;
  }

  get isBusy() {
    return [...this.#states.values()].includes('busy');
  }

  get hasBuilt() {
    return [...this.#states.values()].every((state) => state === 'built');
  }

  async start() {
    const { project, varDir } = this.options;
    // `nest build` removes dist first, which running programs would miss.
    const config = /** @type {{ compilerOptions: Record<string, unknown> }} */ (
      parseJson(readFileSync(join(project, 'nest-cli.json'), 'utf8'))
    );
    config.compilerOptions.deleteOutDir = false;
    const file = join(varDir, 'nest-cli.dev.json');
    writeFileSync(file, JSON.stringify(config, null, 2));
    /** @type {[string, string[]][]} */
    const commands = [
      [
        'nest build --watch',
        [
          'node_modules/@nestjs/cli/bin/nest.js',
          ...['build', '--watch', '--preserveWatchOutput'],
          ...['--config', relative(project, file)],
        ],
      ],
    ];
    if (existsSync(join(project, PAGE_TSCONFIG))) {
      commands.push([
        'tsc --watch',
        [
          'node_modules/typescript/bin/tsc',
          ...['-p', PAGE_TSCONFIG, '--watch', '--preserveWatchOutput', '--noEmitOnError', '--pretty'],
        ],
      ]);
    }
    for (const [name] of commands) this.#states.set(name, 'busy');
    for (const [name, [script = '', ...args]] of commands) {
      const command = await tiedToThisProcess([process.execPath, join(project, script), ...args]);
      if (this.#stopped) return;
      this.#run(name, command);
    }
  }

  /** @param {string} name @param {readonly string[]} command */
  #run(name, [program = '', ...args]) {
    // A group of its own: Ctrl-C in the terminal comes to us alone.
    const child = spawn(program, args, {
      cwd: this.options.project,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    this.#children.push(child);
    for (const stream of [child.stdout, child.stderr]) {
      if (!stream) continue;
      createInterface({ input: stream }).on('line', (line) => this.#take(name, line));
    }
    child.once('error', () => this.#exited(name)).once('exit', () => this.#exited(name));
  }

  /** @param {string} name @param {string} line */
  #take(name, line) {
    if (this.#stopped) return;
    const plain = stripVTControlCharacters(line).trimEnd();
    const state = reportedState(plain);
    if (state === undefined) {
      this.#lines.set(name, [...(this.#lines.get(name) ?? []), colour ? line : plain]);
      return;
    }
    this.#printLines(name);
    this.#states.set(name, state);
    if (state === 'busy') return this.options.onStart();
    if (!this.isBusy) this.options.onEnd(this.hasBuilt ? 'built' : 'failed');
  }

  /** In one piece, as another compiler may speak at the same time. @param {string} name */
  #printLines(name) {
    const text = (this.#lines.get(name) ?? []).join('\n').trim();
    this.#lines.delete(name);
    if (text) this.options.print(`\n${text}\n`);
  }

  /** @param {string} name */
  #exited(name) {
    if (this.#stopped) return;
    this.#printLines(name);
    this.#states.set(name, 'failed');
    this.options.onExit(name);
  }

  stop() {
    this.#stopped = true;
    for (const child of this.#children) child.kill('SIGTERM');
  }
}
