/**
 * `npm start`: provisions and runs the whole system in the foreground, from a fresh clone on. See README.
 * `npm run dev`: the same, which also builds on change; see dev.mjs.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { SetupError, bold, dim, printFailure, say, step, yellow } from './console.mjs';
import { Development, inspectedProcess } from './dev.mjs';
import { ensureEnvFile, secrets } from './env-file.mjs';
import { endRunningCommands } from './processes.mjs';
import { provision } from './provision.mjs';
import { PROJECT, readSettings, urls } from './settings.mjs';
import { onStopSignal } from './signals.mjs';
import { System, checkNotRunning } from './system.mjs';

/** @type {System | undefined} */
let system;
/** @type {Development | undefined} */
let development;
/** @type {(signal: NodeJS.Signals) => void} */
let stopRequested = () => {};
/** @type {Promise<NodeJS.Signals>} */
const stopSignal = new Promise((resolve) => (stopRequested = resolve));

async function main() {
  const { values } = parseArgs({
    options: {
      yes: { type: 'boolean', short: 'y', default: false },
      dev: { type: 'boolean', default: false },
      inspect: { type: 'string' },
    },
  });
  if (values.inspect !== undefined && !values.dev)
    throw new SetupError('--inspect is for development: npm run dev -- --inspect instance');
  const before = readSettings();
  checkNotRunning(before.varDir);
  await provision(before, values);
  if (before.envFile) {
    const file = before.envFile;
    await step('.env', ({ note }) => {
      const result = ensureEnvFile({ file, example: join(PROJECT, '.env.example') });
      note(
        { created: 'created, with new secrets', completed: 'missing secrets added', unchanged: 'unchanged' }[
          result
        ],
      );
    });
  }
  const settings = readSettings();
  checkSecrets(settings);

  const inspected =
    values.inspect === undefined ? undefined : await inspectedProcess(values.inspect, settings);
  system = new System(settings, { step, inspected });
  await system.start();
  banner(settings);
  if (system.programsUser?.warning) say(`${yellow(`! ${system.programsUser.warning}`)}\n`);
  if (values.dev) {
    development = new Development(system);
    await development.start();
  }
  return watch(system);
}

/** Without a .env the secrets must come from the environment. @param {import('./settings.mjs').Settings} settings */
function checkSecrets({ envFile, environment }) {
  if (envFile) return;
  const missing = Object.keys(secrets).filter((name) => !environment[name]);
  if (missing.length > 0) {
    throw new SetupError(
      `ENV_FILE=none reads no file, so ${missing.join(', ')} must be set in the environment. Set them or leave ENV_FILE out.`,
    );
  }
}

/** @param {import('./settings.mjs').Settings} settings */
function banner(settings) {
  const { api, sandbox } = urls(settings);
  const envFile =
    settings.envFile === join(PROJECT, '.env') ? '.env' : (settings.envFile ?? 'the environment');
  const key = settings.envFile ? `$(grep ^ADMIN_API_KEY= ${envFile} | cut -d= -f2-)` : '$ADMIN_API_KEY';
  if (!settings.programs.includes('api')) {
    say(`
${bold('Flotilla is running')}: ${settings.programs.join(', ')}, as server of a larger fleet.

  logs             ${system?.paths.logDir}
  ./flotilla ctl status

${dim('Ctrl-C stops everything.')}
`);
    return;
  }
  say(`
${bold('Flotilla is running.')}

  API              ${api}/api/v1
  documentation    ${api}/docs
  sandbox control  ${settings.hasSandbox ? `${sandbox}   ${dim('simulated WhatsApp, no phone needed')}` : 'off; SANDBOX=true in .env switches the simulated WhatsApp on'}
  admin key        ADMIN_API_KEY in ${envFile}
  logs             ${system?.paths.logDir}

${bold('Next, in another terminal:')}

  ${settings.hasSandbox ? 'npm run demo' : './flotilla --help'}
  curl -X POST ${api}/api/v1/workspaces -H "Authorization: Bearer ${key}" -H 'Content-Type: application/json' -d '{"name": "My first workspace"}'
  ./flotilla ctl status

${dim('Ctrl-C stops everything.')}
`);
}

/**
 * Waits for the end, and reports programs that were started again.
 *
 * @param {System} running
 */
async function watch(running) {
  /** @type {Map<string, number>} */
  const pids = new Map();
  const look = async () => {
    for (const { group, name, pid, statename } of await running.processes()) {
      const program = `${group}:${name}`;
      const before = pids.get(program);
      const isSurprise = statename === 'RUNNING' && before && before !== pid;
      if (isSurprise && !running.restarted.delete(program))
        say(yellow(`! ${program} ended and was started again (pid ${before} → ${pid})`));
      if (statename === 'RUNNING') pids.set(program, pid);
    }
  };
  await look();
  // A request also wakes supervisord, which otherwise takes up to two seconds to see an ended program.
  const timer = setInterval(() => void look().catch(() => {}), 500);
  const end = await Promise.race([stopSignal, /** @type {NonNullable<System['ended']>} */ (running.ended)]);
  clearInterval(timer);
  if (typeof end === 'string') return;
  if (end.code === 0) return say('supervisord was told to shut down: everything is stopped.');
  throw new SetupError(
    `supervisord ended unexpectedly (${end.signal ?? `exit code ${end.code}`}). Its log is ${running.paths.logDir}/supervisord.log; start again with npm start.`,
  );
}

let interrupted = false;
onStopSignal(async (signal) => {
  interrupted = true;
  stopRequested(signal);
  development?.stop();
  say('');
  await endRunningCommands();
  let code = 0;
  try {
    if (system) await system.stop({ step });
    say(
      system
        ? 'Stopped. Nothing is left running; your data stays in place.'
        : 'Interrupted. npm start continues from here.',
    );
    if (!system) code = 130;
  } catch (error) {
    printFailure(error);
    code = 1;
  }
  process.exit(code);
});

try {
  await main();
  development?.stop();
  if (!interrupted) await system?.stop();
} catch (error) {
  // After a signal this is no failure: the handler above stops the system and exits.
  if (interrupted) await new Promise(() => {});
  development?.stop();
  printFailure(error);
  await system?.stop().catch(printFailure);
  process.exit(1);
}
