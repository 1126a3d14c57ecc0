/**
 * `npm run dev`: the system of `npm start`, which is built on change. Only the programs that read a changed file restart,
 * and the logs of all are in the terminal.
 */
import { statSync, watch } from 'node:fs';
import { basename, join } from 'node:path';
import { assetFilter, copyAssets } from './assets.mjs';
import { sourceHash, writeStamp } from './build.mjs';
import { Compilers } from './compilers.mjs';
import { SetupError, bold, dim, green, printFailure, red, say, yellow } from './console.mjs';
import {
  changedFiles,
  concernedPrograms,
  filesBelow,
  readCompiled,
  removeOutdated,
} from './dependencies.mjs';
import { followLogs } from './logs.mjs';
import { firstFreePort } from './ports.mjs';
import { run } from './processes.mjs';
import { PROGRAMS } from './settings.mjs';

/** @typedef {import('./settings.mjs').Settings} Settings */
/** @typedef {import('./supervisord.mjs').Inspected} Inspected */

const INSPECTOR_PORT = 9229;
const LOOK_EVERY_MS = 500;

/** The programs that run in several processes. @type {Record<string, (settings: Settings) => number>} */
const COUNTED = { instance: ({ instances }) => instances, worker: ({ workers }) => workers };

/**
 * The process that `--inspect` names: `api`, `instance` (the first one) or `instance_01`.
 *
 * @param {string} text
 * @param {Settings} settings
 * @returns {Promise<Inspected>}
 */
export async function inspectedProcess(text, settings) {
  const [, program = '', digits = '0'] = /^([a-z]+)(?:_(\d+))?$/.exec(text) ?? [];
  const number = Number(digits);
  const count = COUNTED[program]?.(settings) ?? 1;
  if (!settings.programs.includes(program) || number >= count) {
    throw new SetupError(
      `--inspect ${text} names no program that runs here. Name one of ${settings.programs.join(', ')}, or one of several by number: worker_00, instance_01.`,
    );
  }
  return { program, number, address: `127.0.0.1:${await firstFreePort(INSPECTOR_PORT)}` };
}

/**
 * The programs of a list, as supervisord numbers them.
 *
 * @param {readonly string[]} programs
 * @param {readonly import('./supervisord.mjs').ProcessInfo[]} processes
 */
export const processesOf = (programs, processes) =>
  processes
    .filter(({ group, name }) => group === 'flotilla' && programs.includes(name.replace(/_\d+$/, '')))
    // Who stopped one with ./flotilla ctl wants it stopped.
    .filter(({ statename }) => statename !== 'STOPPED')
    .map(({ name }) => name);

/** @param {number} ms */
const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;

export class Development {
  /** What the running programs have been started with. */
  #running;
  #compilers;
  #isAsset;
  /** When the compilers began. */
  #began = Date.now();
  /** When the last build began. */
  #lastBegan = Date.now();
  /** The sources when the compilers began. */
  #hash = '';
  #isFirst = true;
  #isApplying = false;
  #isOutdated = false;
  #stopped = false;
  /** @type {(() => void)[]} */
  #ends = [];

  /** @param {import('./system.mjs').System} system */
  constructor(system) {
    this.system = system;
    this.project = system.settings.project;
    this.dist = join(this.project, 'dist');
    this.#isAsset = assetFilter(this.project);
    this.#running = readCompiled(this.dist);
    this.#compilers = new Compilers({
      project: this.project,
      varDir: system.settings.varDir,
      print: say,
      onStart: () => this.#onStart(),
      onEnd: (state) => this.#onEnd(state),
      onExit: (name) => say(red(`✗ ${name} ended. Restart npm run dev.`)),
    });
  }

  async start() {
    const programs = (await this.system.processes()).filter(({ group }) => group === 'flotilla');
    if (this.#stopped) return;
    const { inspected } = this.system;
    if (inspected) {
      const { program, number, address } = inspected;
      const name = program in COUNTED ? `${program}_${String(number).padStart(2, '0')}` : program;
      say(`${bold('Debugger')}: the inspector of ${name} listens on ${address} (chrome://inspect).\n`);
    }
    this.#ends.push(
      followLogs(
        programs.map(({ name, stdout_logfile: file }) => ({ name, file })),
        say,
      ),
    );
    this.#watchSetup();
    const timer = setInterval(() => this.#lookAtAssets(), LOOK_EVERY_MS);
    this.#ends.push(() => clearInterval(timer));
    this.#hash = this.#hashOfSources();
    await this.#compilers.start();
  }

  stop() {
    this.#stopped = true;
    this.#compilers.stop();
    for (const end of this.#ends.splice(0)) end();
  }

  #onStart() {
    if (this.#isFirst) return;
    this.#began = Date.now();
    this.#hash = this.#hashOfSources();
  }

  /** @param {'built' | 'failed'} state */
  #onEnd(state) {
    if (state === 'built') return void this.#apply();
    say(red('✗ The build failed with the errors above: no program is restarted. Correct them and save.'));
    this.#isFirst = false;
    this.#lastBegan = this.#began;
  }

  /** The compilers do not see these. */
  #lookAtAssets() {
    if (this.#isFirst || this.#compilers.isBusy || !this.#compilers.hasBuilt) return;
    if (!copyAssets(this.project, this.#isAsset)) return;
    this.#began = Date.now();
    this.#hash = this.#hashOfSources();
    void this.#apply();
  }

  /** One at a time; what is built meanwhile comes right after it. */
  async #apply() {
    this.#isOutdated = true;
    if (this.#isApplying) return;
    this.#isApplying = true;
    while (this.#isOutdated && !this.#stopped) {
      this.#isOutdated = false;
      try {
        await this.#applyOnce();
      } catch (error) {
        if (!this.#stopped) printFailure(error);
      }
    }
    this.#isApplying = false;
  }

  async #applyOnce() {
    const { system, project } = this;
    const isFirst = this.#isFirst;
    this.#isFirst = false;
    const saved = this.#savedAt();
    const began = this.#began;
    removeOutdated(project);
    const files = readCompiled(this.dist);
    const changed = changedFiles(this.#running, files);
    const programs = concernedPrograms(system.settings.programs, changed, files);
    const bundled = concernedPrograms([...PROGRAMS, 'cli'], changed, files);
    if (bundled.length > 0)
      await run([process.execPath, join(project, 'setup/bundle.mjs'), ...bundled], {
        cwd: project,
        failure: 'Bundling failed with the errors above: no program is restarted.',
      });
    if (changed.some((path) => path.startsWith('migrations/'))) say((await system.migrate()).trim());
    this.#running = files;
    this.#lastBegan = began;
    // What was saved while the compilers ran is perhaps not built.
    if (this.#hash && this.#hash === this.#hashOfSources()) writeStamp(project, this.#hash);

    const built = Date.now();
    const rebuilt = `rebuilt in ${seconds(built - saved)}`;
    const names = processesOf(programs, await system.processes());
    if (names.length === 0)
      return say(
        green(
          isFirst ? '✓ src is watched: save a file to build it.' : `✓ ${rebuilt}; no program is concerned`,
        ),
      );
    if (this.#stopped) return;
    await system.restart(names, () => this.#stopped || this.#isOutdated);
    if (this.#stopped) return;
    const done = this.#isOutdated
      ? 'not ready yet when the next build ended'
      : `${seconds(Date.now() - saved)} after the save`;
    say(`${green(`✓ ${rebuilt}; restarted ${names.join(', ')}`)} ${dim(`(${done})`)}`);
  }

  /** Empty while an editor replaces a file. */
  #hashOfSources() {
    try {
      return sourceHash(this.project);
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ENOENT') return '';
      throw error;
    }
  }

  /** When the first of the sources was saved that this build is the first to contain. */
  #savedAt() {
    const times = ['src', 'migrations', 'clients/typescript/src']
      .map((folder) => join(this.project, folder))
      .flatMap((folder) => filesBelow(folder).map((file) => join(folder, file)))
      .map((file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0)
      .filter((time) => time > this.#lastBegan);
    return Math.min(this.#began, ...times);
  }

  /** What this process and supervisord have read already. */
  #watchSetup() {
    const { project } = this;
    const { envFile } = this.system.settings;
    /** @type {Set<string>} */
    const names = new Set();
    /** @type {NodeJS.Timeout | undefined} */
    let timer;
    const note = (/** @type {string} */ name) => {
      names.add(name);
      clearTimeout(timer);
      timer = setTimeout(() => {
        say(yellow(`! ${[...names].join(', ')} changed: restart npm run dev.`));
        names.clear();
      }, 300);
    };
    for (const folder of ['setup', 'supervisor']) {
      const watcher = watch(
        join(project, folder),
        (_, name) => name?.match(/\.(mjs|conf|sh)$/) && note(`${folder}/${name}`),
      );
      this.#ends.push(() => watcher.close());
    }
    const files = [
      'package.json',
      'package-lock.json',
      'nest-cli.json',
      ...(envFile ? [basename(envFile)] : []),
    ];
    const watcher = watch(project, (_, name) => name && files.includes(name) && note(name));
    this.#ends.push(() => (clearTimeout(timer), watcher.close()));
  }
}
