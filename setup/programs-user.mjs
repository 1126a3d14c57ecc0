/**
 * The user that runs Flotilla's programs, and whether their browsers can use Chromium's own sandbox.
 *
 * Chromium has no sandbox as root. So the programs of a Flotilla that root starts run as the user `flotilla`, as the embedded
 * PostgreSQL runs as `postgres`. Only supervisord stays root.
 */
import {
  accessSync,
  chmodSync,
  chownSync,
  constants,
  existsSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { SetupError } from './console.mjs';
import { run, tryRun, which } from './processes.mjs';
import { findChromium } from './settings.mjs';

/** @typedef {import('./settings.mjs').Settings} Settings */

/**
 * @typedef {object} ProgramsUser
 * @property {string} user
 * @property {string} home
 * @property {number} [uid] set if it is not the present user
 * @property {number} [gid]
 * @property {'on' | 'off'} browserSandbox
 * @property {string} [warning] why browsers run without their sandbox, and the cure
 */

const NAME = 'flotilla';
/** The directories below the var directory that the programs write. */
const WRITTEN = ['sessions', 'sandbox', 'tmp', 'media', 'home'];
const TRIAL_MS = 60_000;

/** @param {string} name @returns {{ user: string, uid: number, gid: number } | undefined} */
export function userNamed(name) {
  const entry = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((line) => line.startsWith(`${name}:`))
    ?.split(':');
  return entry && { user: name, uid: Number(entry[2]), gid: Number(entry[3]) };
}

/**
 * Chooses the user of the programs, makes it when it does not exist, and gives it the files of the programs.
 *
 * @param {Settings} settings
 * @returns {Promise<ProgramsUser>}
 */
export async function prepareProgramsUser(settings) {
  const { username: user, homedir: home, uid } = userInfo();
  if (uid !== 0) return chosen(settings, { user, home }, settings.varDir);
  const asRoot = (/** @type {string} */ why) => withoutSandbox(settings, { user, home }, why);

  const other = userNamed(NAME) ?? (await makeUser());
  if (!other)
    return asRoot(
      `This system has no user ${NAME}, and it could not be made. Make it with: useradd --system ${NAME}`,
    );
  const missing = await unreachable(settings, other);
  if (missing)
    return asRoot(
      `The user ${NAME} cannot read ${missing}. Move Flotilla to a place that every user may enter, for example /opt/flotilla`,
    );
  checkPortsOf(settings);
  await giveFiles(settings, other);
  const own = join(settings.varDir, 'home');
  return chosen(settings, { ...other, home: own }, own);
}

/**
 * @param {Settings} settings
 * @param {Omit<ProgramsUser, 'browserSandbox'>} who
 * @param {string} scratch a directory that this user may write
 * @returns {Promise<ProgramsUser>}
 */
async function chosen(settings, who, scratch) {
  if (settings.browserSandbox !== 'auto') return { ...who, browserSandbox: settings.browserSandbox };
  if (!settings.programs.includes('instance') || settings.instances === 0)
    return { ...who, browserSandbox: 'on' };
  const chromium = findChromium(settings);
  const works = !chromium || (await sandboxWorks(settings, chromium, who, scratch));
  // A browser that does not start without its sandbox either has another fault, which the instances report.
  const isFault = !works && chromium && !(await browserRuns(chromium, who, scratch, ['--no-sandbox']));
  if (works || isFault) return { ...who, browserSandbox: 'on' };
  return withoutSandbox(settings, who, `The kernel refuses user namespaces to the browser. ${kernelCure()}`);
}

/**
 * @param {Settings} settings
 * @param {Omit<ProgramsUser, 'browserSandbox'>} who
 * @param {string} why what is wrong, and the cure
 * @returns {ProgramsUser}
 */
function withoutSandbox(settings, who, why) {
  if (settings.browserSandbox === 'on')
    throw new SetupError(`${why}. Or set BROWSER_SANDBOX=auto to run browsers without their sandbox.`);
  const warning = `${why}. Until then browsers run without Chromium's sandbox: a page that breaks out of its renderer has the rights of the user ${who.user}.`;
  return { ...who, browserSandbox: 'off', warning };
}

/**
 * Whether the browser runs with its sandbox. A success is remembered until the machine or the browser changes, because a start
 * of a browser costs a second.
 *
 * @param {Settings} settings
 * @param {string} chromium
 * @param {{ uid?: number, gid?: number }} who
 * @param {string} scratch
 */
async function sandboxWorks(settings, chromium, who, scratch) {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const tried = [boot, chromium, statSync(chromium).mtimeMs, who.uid ?? process.getuid?.()].join(' ');
  const file = join(settings.project, 'var/browser-sandbox');
  if (existsSync(file) && readFileSync(file, 'utf8') === tried) return true;
  if (!(await browserRuns(chromium, who, scratch, []))) return false;
  mkdirSync(join(settings.project, 'var'), { recursive: true });
  writeFileSync(file, tried);
  return true;
}

/** What an operator can do so that the browser gets user namespaces. */
function kernelCure() {
  const value = (/** @type {string} */ name) => {
    const file = `/proc/sys/${name.replaceAll('.', '/')}`;
    return existsSync(file) ? readFileSync(file, 'utf8').trim() : undefined;
  };
  if (value('kernel.unprivileged_userns_clone') === '0')
    return 'Allow them with: sysctl -w kernel.unprivileged_userns_clone=1';
  if (value('user.max_user_namespaces') === '0')
    return 'Allow them with: sysctl -w user.max_user_namespaces=10000';
  if (value('kernel.apparmor_restrict_unprivileged_userns') === '1')
    return 'Allow them with: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0';
  return 'In a container, allow unshare and clone with CLONE_NEWUSER in its seccomp profile (docker run --security-opt seccomp=…)';
}

/**
 * Runs the browser once.
 *
 * @param {string} chromium
 * @param {{ uid?: number, gid?: number }} who
 * @param {string} scratch
 * @param {readonly string[]} args
 */
async function browserRuns(chromium, { uid, gid }, scratch, args) {
  const profile = mkdtempSync(join(scratch, '.trial-'));
  // The user owns the directory around it, and could have put a link in its place.
  if (uid !== undefined && gid !== undefined) lchownSync(profile, uid, gid);
  try {
    const { code, stdout } = await tryRun(
      [
        chromium,
        ...(chromium.includes('headless-shell') ? [] : ['--headless']),
        '--disable-gpu',
        '--disable-dev-shm-usage',
        '--no-first-run',
        `--user-data-dir=${profile}`,
        ...args,
        '--dump-dom',
        'about:blank',
      ],
      { uid, gid, cwd: '/', env: { ...process.env, HOME: profile }, timeout: TRIAL_MS },
    );
    return code === 0 && stdout.includes('<body>');
  } finally {
    rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
}

async function makeUser() {
  const program = which(['useradd']);
  if (!program) return undefined;
  const { code } = await tryRun([
    program,
    '--system',
    '--user-group',
    '--no-create-home',
    '--home-dir',
    '/nonexistent',
    '--shell',
    '/usr/sbin/nologin',
    NAME,
  ]);
  // 9: another start has just made it.
  return code === 0 || code === 9 ? userNamed(NAME) : undefined;
}

/**
 * The first path that this user cannot read; undefined when it can read all that the programs need.
 *
 * @param {Settings} settings
 * @param {{ uid: number, gid: number }} who
 */
async function unreachable(settings, { uid, gid }) {
  const chromium = settings.programs.includes('instance') ? findChromium(settings) : undefined;
  const paths = [
    process.execPath,
    join(settings.project, 'dist/programs/cli.mjs'),
    join(settings.project, 'node_modules/whatsapp-web.js/package.json'),
    settings.varDir,
    ...(chromium ? [chromium] : []),
  ];
  for (const path of paths) {
    const { code } = await tryRun(['/bin/sh', '-c', 'test -r "$0"', path], { uid, gid, cwd: '/' });
    if (code !== 0) return path;
  }
  return undefined;
}

/** @param {Settings} settings */
function checkPortsOf({ programs, port, instances, instanceBasePort, sandboxPort, sandboxControlPort }) {
  const first = Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8'));
  /** @type {[string, string, number][]} */
  const uses = [
    ['api', 'PORT', port],
    ['instance', 'INSTANCE_BASE_PORT', instances > 0 ? instanceBasePort : first],
    ['sandbox', 'SANDBOX_PORT', sandboxPort],
    ['sandbox', 'SANDBOX_CONTROL_PORT', sandboxControlPort],
  ];
  const low = uses.find(([program, , number]) => programs.includes(program) && number < first);
  if (low)
    throw new SetupError(
      `${low[1]} is ${low[2]}, which only root may use, and the programs run as the user ${NAME}. Set a port from ${first} on in .env, or allow this port with: sysctl -w net.ipv4.ip_unprivileged_port_start=${low[2]}`,
    );
}

/**
 * Gives the user what the programs write, also files that programs of root have left, and lets it read the settings.
 *
 * @param {Settings} settings
 * @param {{ uid: number, gid: number }} who
 */
async function giveFiles(settings, { uid, gid }) {
  const directories = [...WRITTEN.map((name) => join(settings.varDir, name)), settings.mediaPath];
  for (const directory of new Set(directories)) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    // A file with several names may be a file of somebody else, to which this user has made a link.
    const strangers = ['(', '-type', 'd', '-o', '-links', '1', ')', '!', '-uid', String(uid)];
    // In the directory of each file: the user could put a link in the place of a directory meanwhile.
    const give = ['-execdir', 'chown', '-h', `${uid}:${gid}`, '{}', '+'];
    await run(['find', directory, ...strangers, ...give], {
      cwd: '/',
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
      failure: `${directory} could not be given to the user ${NAME}. Give it with: chown -R ${NAME}: ${directory}`,
    });
  }
  // The name of the server: only root changes it.
  const serverId = join(settings.varDir, 'server-id');
  if (existsSync(serverId)) chmodSync(serverId, 0o644);
  if (!settings.envFile || !existsSync(settings.envFile)) return;
  const { mode, gid: group } = statSync(settings.envFile);
  if (group === gid && (mode & constants.S_IRGRP) !== 0) return;
  try {
    accessSync(settings.envFile, constants.W_OK);
    chownSync(settings.envFile, statSync(settings.envFile).uid, gid);
    chmodSync(settings.envFile, 0o640);
  } catch (error) {
    throw new SetupError(
      `The user ${NAME} cannot read ${settings.envFile}. Let it read the file with: chgrp ${NAME} ${settings.envFile} && chmod 640 ${settings.envFile}`,
      { cause: error },
    );
  }
}
