/**
 * Renders the configuration of supervisord from `supervisor/`, and talks to supervisord.
 *
 * As a command it prints the configuration for the system's supervisord:
 *   node setup/supervisord.mjs [--user NAME] [--instances N] [--workers N] [--only api,worker] [--log-dir DIR]
 */
import { createHash } from 'node:crypto';
import { chmodSync, lstatSync, mkdirSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { SetupError, printFailure } from './console.mjs';
import { commandLine, isAlive, tryRun } from './processes.mjs';
import { findSupervisorctl } from './system-packages.mjs';
import { PROGRAMS, PROJECT, programsOf, readSettings } from './settings.mjs';

/** @typedef {import('./settings.mjs').Settings} Settings */

/**
 * The paths of supervisord's files. The path of a unix socket has at most 107 characters, and supervisord adds its pid while
 * it makes the socket. So a project with a long path gets its socket in the temporary directory.
 *
 * @param {string} varDir
 */
export function supervisordPaths(varDir) {
  const runDir = join(varDir, 'supervisor');
  const short = join(
    tmpdir(),
    `flotilla-${process.getuid?.()}-${createHash('sha256').update(runDir).digest('hex').slice(0, 12)}`,
  );
  const socketDir = Buffer.byteLength(join(runDir, 'supervisor.sock')) <= 90 ? runDir : short;
  return {
    runDir,
    config: join(runDir, 'supervisord.conf'),
    pidFile: join(runDir, 'supervisord.pid'),
    socketDir,
    socket: join(socketDir, 'supervisor.sock'),
    logDir: join(varDir, 'log'),
  };
}

/**
 * Makes the directories, which only this user may read.
 *
 * @param {ReturnType<typeof supervisordPaths>} paths
 */
export function makeSupervisordDirectories(paths) {
  for (const directory of [paths.runDir, paths.logDir, paths.socketDir]) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const { uid } = lstatSync(directory);
    if (process.getuid && uid !== process.getuid()) {
      throw new SetupError(
        `${directory} belongs to another user (id ${uid}). Start as that user, or give it to this one: sudo chown -R "$USER" ${directory}`,
      );
    }
    chmodSync(directory, 0o700);
  }
}

/**
 * Fills in a template.
 *
 * @param {string} template
 * @param {Record<string, string | number | boolean>} values
 */
export function render(template, values) {
  return template.replace(/\{\{(\w+)\}\}/g, (_, /** @type {string} */ name) => {
    if (!(name in values)) throw new Error(`no value for {{${name}}}`);
    const value = String(values[name]);
    // supervisord expands % twice in some settings, and reads a ; after a space as a comment.
    if (/[\r\n"%;]/.test(value)) {
      throw new SetupError(
        `supervisord cannot use the path ${value}: move the project to one without quotes, % and ;`,
      );
    }
    return value;
  });
}

/**
 * Removes the [program:flotilla-…] sections of other programs.
 *
 * @param {string} config
 * @param {readonly string[]} wanted
 */
const keepPrograms = (config, wanted) =>
  config
    .split(/^(?=\[)/m)
    .filter((section) => {
      const [, name] = /^\[program:flotilla-(\w+)\]/.exec(section) ?? [];
      return !name || wanted.includes(name);
    })
    .join('');

/** @param {string} name */
const template = (name) => readFileSync(join(PROJECT, 'supervisor', name), 'utf8');

/** @param {readonly string[]} names */
const sections = (names) => names.map((name) => `flotilla-${name}`).join(',');

/**
 * The configuration of the programs for `npm start` and for the system's supervisord.
 *
 * @param {object} options
 * @param {string} options.project
 * @param {string} options.user
 * @param {string} options.home
 * @param {string} options.logDir
 * @param {number} options.instances
 * @param {number} options.workers
 * @param {boolean} options.autostart
 * @param {readonly string[]} [options.programs]
 */
export function renderPrograms({
  project,
  user,
  home,
  logDir,
  instances,
  workers,
  autostart,
  programs = PROGRAMS,
}) {
  const wanted = programs.filter(
    (name) => !(name === 'instance' && instances === 0) && !(name === 'worker' && workers === 0),
  );
  return render(keepPrograms(template('flotilla.conf'), wanted), {
    PROGRAMS: sections(wanted),
    NODE: process.execPath,
    PROJECT: project,
    USER: user,
    HOME: home,
    LOG_DIR: logDir,
    INSTANCES: instances,
    WORKERS: workers,
    AUTOSTART: autostart,
  });
}

/**
 * The process that a debugger is for.
 *
 * @typedef {object} Inspected
 * @property {string} program
 * @property {number} number which of its processes
 * @property {string} address where the inspector listens
 */

/**
 * The programs' configuration with an inspector in one process. That process runs the compiled files and not the bundle,
 * so that the debugger finds the TypeScript sources.
 *
 * @param {string} config
 * @param {Inspected} inspected
 */
export function withInspector(config, { program, number, address }) {
  const name = `flotilla-${program}`;
  const command = `command="${process.execPath}" --inspect=${address} --enable-source-maps dist/src/roles/${program}.main.js`;
  const all = config.split(/^(?=\[)/m);
  const own = all.find((section) => section.startsWith(`[program:${name}]`)) ?? '';
  const [, count] = /^numprocs=(\d+)$/m.exec(own) ?? [];
  const inspect = (/** @type {string} */ section) => section.replace(/^command=.*$/m, () => command);
  if (count === undefined)
    return all.map((section) => (section === own ? inspect(section) : section)).join('');
  // supervisord has one command for all processes of a section: each process gets a section.
  const single = (/** @type {number} */ n) =>
    own
      .replace(`[program:${name}]`, `[program:${name}-${n}]`)
      .replace(/^numprocs=.*$/m, `numprocs=1\nnumprocs_start=${n}`);
  const numbers = Array.from({ length: Number(count) }, (_, n) => n);
  return all
    .flatMap((section) =>
      section === own ? numbers.map((n) => (n === number ? inspect(single(n)) : single(n))) : [section],
    )
    .join('')
    .replace(/^programs=.*$/m, (line) =>
      line.replace(new RegExp(`${name}(?=,|$)`), numbers.map((n) => `${name}-${n}`).join(',')),
    );
}

/**
 * The whole configuration of the supervisord of `npm start`.
 *
 * @param {Settings} settings
 * @param {object} options
 * @param {Record<string, string | number>} options.data
 * @param {readonly string[]} options.dataPrograms
 * @param {{ user: string, home: string }} [options.programsUser] who runs the programs; without it, none runs
 * @param {Inspected} [options.inspected]
 */
export function renderSupervisord(settings, { data, dataPrograms, programsUser, inspected }) {
  const paths = supervisordPaths(settings.varDir);
  const { username: USER } = userInfo();
  const parts = [
    render(template('supervisord.conf'), {
      USER,
      RUN_DIR: paths.runDir,
      LOG_DIR: paths.logDir,
      SOCKET: paths.socket,
    }),
  ];
  if (dataPrograms.length > 0) {
    parts.push(
      render(keepPrograms(template('data.conf'), dataPrograms), {
        ...data,
        USER,
        LOG_DIR: paths.logDir,
        DATA_PROGRAMS: sections(dataPrograms),
      }),
    );
  }
  if (programsUser) {
    const config = renderPrograms({
      project: settings.project,
      ...programsUser,
      logDir: paths.logDir,
      instances: settings.instances,
      workers: settings.workers,
      autostart: false,
      programs: settings.programs,
    });
    parts.push(inspected ? withInspector(config, inspected) : config);
  }
  return parts.join('\n');
}

/**
 * The pid of the supervisord of this var directory; undefined when it does not run.
 *
 * @param {string} varDir
 */
export function runningSupervisord(varDir) {
  const { pidFile, config } = supervisordPaths(varDir);
  try {
    const pid = Number(readFileSync(pidFile, 'utf8'));
    return isAlive(pid) && commandLine(pid).includes(config) ? pid : undefined;
  } catch {
    return undefined;
  }
}

/**
 * @typedef {object} ProcessInfo
 * @property {string} group
 * @property {string} name
 * @property {string} statename STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL
 * @property {number} pid 0 when it does not run
 * @property {number} exitstatus
 * @property {string} spawnerr
 * @property {string} stdout_logfile
 */

/** XML-RPC over supervisord's unix socket. */
export class SupervisorClient {
  /** @param {string} socket */
  constructor(socket) {
    this.socket = socket;
  }

  /**
   * @param {string} method
   * @param {...(string | boolean | number)} args
   * @returns {Promise<unknown>}
   */
  async call(method, ...args) {
    const escape = (/** @type {string} */ text) => text.replace(/&/g, '&amp;').replace(/</g, '&lt;');
    const encode = (/** @type {string | boolean | number} */ value) => {
      if (typeof value === 'boolean') return `<boolean>${value ? 1 : 0}</boolean>`;
      return typeof value === 'number' ? `<int>${value}</int>` : `<string>${escape(value)}</string>`;
    };
    const params = args.map((value) => `<param><value>${encode(value)}</value></param>`).join('');
    const body = `<?xml version="1.0"?><methodCall><methodName>supervisor.${method}</methodName><params>${params}</params></methodCall>`;
    return parseResponse(await this.#post(body));
  }

  /** @param {string} body @returns {Promise<string>} */
  #post(body) {
    return new Promise((resolve, reject) => {
      const headers = { 'content-type': 'text/xml', 'content-length': Buffer.byteLength(body) };
      const outgoing = request(
        { socketPath: this.socket, path: '/RPC2', method: 'POST', headers, timeout: 60_000 },
        (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (chunk) => (text += chunk));
          response.on('end', () => resolve(text)).on('error', reject);
        },
      );
      outgoing.on('timeout', () => outgoing.destroy(new Error('supervisord does not answer')));
      outgoing.on('error', reject).end(body);
    });
  }

  /** @returns {Promise<ProcessInfo[]>} */
  async processes() {
    return /** @type {ProcessInfo[]} */ (await this.call('getAllProcessInfo'));
  }
}

/**
 * The value of an XML-RPC response. Throws its fault as an error.
 *
 * @param {string} xml
 * @returns {unknown}
 */
export function parseResponse(xml) {
  const tokens = xml.match(/<[^>]+>|[^<]+/g) ?? [];
  let at = tokens.findIndex((token) => token === '<value>');
  const unescape = (/** @type {string} */ text) =>
    text
      .replace(/&lt;/g, '<')
      .replace(/&gt;/g, '>')
      .replace(/&quot;/g, '"')
      .replace(/&amp;/g, '&');
  const blank = () => {
    while (at < tokens.length && tokens[at]?.trim() === '') at++;
  };
  const next = () => (blank(), tokens[at++] ?? '');
  const peek = () => (blank(), tokens[at]);
  /** Reads the text and the closing tag. */
  const text = () => {
    const value = tokens[at]?.startsWith('<') ? '' : (tokens[at++] ?? '');
    at++;
    return unescape(value);
  };

  /** @returns {unknown} */
  const value = () => {
    next(); // <value>
    const type = tokens[at]?.startsWith('<') || tokens[at]?.trim() === '' ? next() : undefined;
    if (type === undefined) return text(); // a string without a type
    /** @type {unknown} */
    let result;
    if (type === '<struct>') {
      /** @type {Record<string, unknown>} */
      const struct = {};
      while (peek() === '<member>') {
        next();
        next(); // <name>
        const name = text();
        struct[name] = value();
        next(); // </member>
      }
      next();
      result = struct;
    } else if (type === '<array>') {
      const items = [];
      next(); // <data>
      while (peek() === '<value>') items.push(value());
      next();
      next();
      result = items;
    } else if (type === '</value>' || type.endsWith('/>')) {
      return type === '</value>' ? '' : (next(), type === '<nil/>' ? null : '');
    } else {
      const raw = text();
      if (type === '<int>' || type === '<i4>' || type === '<double>') result = Number(raw);
      else if (type === '<boolean>') result = raw === '1';
      else result = raw;
    }
    next(); // </value>
    return result;
  };

  if (at < 0) throw new Error(`supervisord answers: ${xml.slice(0, 200)}`);
  const result = value();
  if (xml.includes('<fault>')) {
    const fault = /** @type {{ faultString: string, faultCode: number }} */ (result);
    throw Object.assign(new Error(`supervisord: ${fault.faultString}`), { code: fault.faultCode });
  }
  return result;
}

/**
 * Runs supervisorctl for the supervisord of this var directory.
 *
 * @param {string} varDir
 * @param {readonly string[]} args
 * @returns {Promise<string>} its output
 */
export async function supervisorctl(varDir, args) {
  const program = findSupervisorctl();
  if (!program)
    throw new SetupError(
      'supervisorctl is not installed. Run npm start once, or install the package supervisor.',
    );
  const { code, output } = await tryRun([program, '-c', supervisordPaths(varDir).config, ...args]);
  // `status` exits with 3 when a program does not run, which is no failure.
  if (code !== 0 && !(code === 3 && args[0] === 'status'))
    throw new Error(`supervisorctl ${args.join(' ')}: ${output.trim()}`);
  return output;
}

function printProductionConfig() {
  const { values } = parseArgs({
    options: {
      user: { type: 'string' },
      home: { type: 'string' },
      instances: { type: 'string' },
      workers: { type: 'string' },
      only: { type: 'string' },
      'log-dir': { type: 'string' },
    },
  });
  const settings = readSettings();
  const count = (/** @type {string | undefined} */ text, /** @type {number} */ fallback) => {
    if (text === undefined) return fallback;
    if (!/^\d+$/.test(text)) throw new SetupError(`"${text}" is not a number of processes.`);
    return Number(text);
  };
  const programs = values.only === undefined ? settings.programs : programsOf(values.only, '--only');
  const user = values.user ?? userInfo().username;
  process.stdout.write(
    renderPrograms({
      project: PROJECT,
      user,
      home: values.home ?? homeOf(user),
      logDir: resolve(values['log-dir'] ?? join(settings.varDir, 'log')),
      instances: count(values.instances, settings.instances),
      workers: count(values.workers, settings.workers),
      autostart: true,
      programs,
    }),
  );
}

/** @param {string} user */
function homeOf(user) {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${user}:`));
  if (!line)
    throw new SetupError(
      `This system has no user "${user}". Create it (sudo useradd --system --create-home ${user}) or name another with --user.`,
    );
  return line.split(':')[5] ?? '/';
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    printProductionConfig();
  } catch (error) {
    printFailure(error);
    process.exitCode = 1;
  }
}
