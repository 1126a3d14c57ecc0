import { realpathSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { addBacklogCommands } from '../admin/backlog.commands.js';
import { addFailedJobsCommands } from '../admin/failed-jobs.commands.js';
import { addKeyRotationCommands } from '../admin/key-rotation.commands.js';
import { addMediaCommands } from '../media/media.commands.js';
import { print, type RunWithServices, wholeNumber } from '../platform/command-line.js';
import type { Config } from '../platform/config/config.js';
import { withDeadline } from '../platform/deadline.js';
import { addQueueWorkCommand, type WorkerSettings } from '../queues/queue-work.commands.js';
import { addQueuesCommands } from '../queues/queues.commands.js';
import type { WorkerOptions } from '../queues/worker-options.js';
import { addWorkspacesCommands } from '../workspaces/workspaces.commands.js';
import { addWebhooksCommands } from '../webhooks/webhooks.commands.js';

const closeMs = 2_000;

/* Each command loads what it needs when it runs, so that --help is there at once. */
const program = new Command('flotilla')
  .description('Operates Flotilla: migrations, queues, accounts.')
  .showHelpAfterError('(--help after the command says what it takes)');

program
  .command('migrate')
  .description('bring the database schema up to date')
  .action(async () => {
    const { migrate } = await import('../platform/database/migrate.js');
    const names = await migrate(await readConfig());
    print(names.length === 0 ? 'The schema is up to date.' : `Migrated: ${names.join(', ')}.`);
  });

program
  .command('config:show')
  .description('print the effective settings; secrets are masked')
  .option('--json', 'as JSON (the default, for scripts to say so)')
  .option('--reveal', 'show the secrets too')
  .action(async ({ reveal }: { reveal?: boolean }) => {
    const { maskConfig } = await import('../platform/config/config.js');
    const config = await readConfig();
    print(JSON.stringify(reveal ? config : maskConfig(config), null, 2));
  });

program
  .command('openapi:generate')
  .description('write the OpenAPI document from the code, as docs/openapi.json has it')
  .option('--output <file>', 'where to; - is the standard output', 'docs/openapi.json')
  .action(async ({ output }: { output: string }) => {
    const [{ generateDocument }, { writeFile }] = await Promise.all([
      import('./api.document.js'),
      import('node:fs/promises'),
    ]);
    const document = await generateDocument();
    if (output === '-') print(document.trimEnd());
    else await writeFile(output, document);
  });

addQueueWorkCommand(program, work);
addQueuesCommands(program, runWithServices);
addFailedJobsCommands(program, runWithServices);
addBacklogCommands(program, runWithServices);
addWorkspacesCommands(program, runWithServices);
addKeyRotationCommands(program, runWithServices);
addWebhooksCommands(program, runWithServices);
addMediaCommands(program, runWithServices);

program
  .command('demo')
  .description(
    'show the running system at work: link three sandbox accounts, send, and check that all arrived once',
  )
  .option('--messages <count>', 'how many messages, 12 to 20000', wholeNumber(12, 20_000), 60)
  .action(async ({ messages }: { messages: number }) => {
    const { runDemo } = await import('../../demo/demo.js');
    await runDemo(await readConfig(), messages);
  });

async function readConfig(): Promise<Config> {
  const { loadConfig } = await import('../platform/config/config.js');
  return loadConfig();
}

async function work(options: WorkerOptions, settings: WorkerSettings): Promise<void> {
  const [{ runWorker }, { secretsOf }, { createLogger }, reports] = await Promise.all([
    import('./worker.main.js'),
    import('../platform/config/config.js'),
    import('../platform/logging/logger.js'),
    import('../queues/worker-report.js'),
  ]);
  const { jsonReport, silentReport, textReport } = reports;
  const config = await readConfig();
  const { output, verbose, name = `cli_${process.pid}` } = settings;
  // Under supervisord the log is all that there is to read.
  const isLogged = verbose || process.env.SUPERVISOR_ENABLED !== undefined;
  const logger = createLogger('worker', isLogged ? config.logLevel : 'error', {
    toStderr: output !== 'none' || !isLogged,
    secrets: secretsOf(config),
  });
  if (output === 'text') {
    print(`Processing jobs from ${options.queues.join(', ')}. Ctrl-C ends it after the present ones.`);
  }
  const report = output === 'text' ? textReport(print) : output === 'json' ? jsonReport(print) : silentReport;
  const named = { ...config, worker: { ...config.worker, name: `${config.server.id}.${name}` } };
  try {
    process.exitCode = await runWorker(named, logger, options, report);
  } catch (error) {
    complain(error);
  }
}

/** Runs a command with the services of {@link CliModule}, and ends it in good time whatever does not answer. */
async function runWithServices(...[command]: Parameters<RunWithServices>): Promise<void> {
  const [{ createContext }, { createLogger }, { CliModule }] = await Promise.all([
    import('../platform/start-role.js'),
    import('../platform/logging/logger.js'),
    import('./cli.module.js'),
  ]);
  const logger = createLogger('cli', 'silent', { toStderr: true });
  const config = await readConfig();
  try {
    const context = await createContext(CliModule, config, logger, { handleSignals: false });
    await command(context);
    await withDeadline(context.close(), closeMs, () => new Error(`not closed within ${closeMs} ms`));
  } catch (error) {
    complain(error);
  }
}

function complain(error: unknown): void {
  const { message, code } = error as Partial<Error> & { code?: string };
  const text = (message || String(error)).trim();
  process.stderr.write(`${text}${cures[code ?? ''] ?? ''}\n`);
  process.exitCode = 1;
}

const away =
  '\nIs PostgreSQL running, and is DATABASE_URL right? flotilla config:show says what is in force.';
const old = '\nThe schema is older than this version: run flotilla migrate.';
/** What helps, by the codes of Node and PostgreSQL. */
const cures: Record<string, string> = {
  ECONNREFUSED: away,
  ENOTFOUND: away,
  ETIMEDOUT: away,
  '57P03': away,
  '42P01': old,
  '42703': old,
};

// So that whoever runs a command decides when the process ends.
for (const command of [program, ...program.commands]) command.exitOverride();

/** Runs the command that these arguments name; what it came to is in `process.exitCode`. */
export async function runCommandLine(args: string[]): Promise<void> {
  try {
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    // What is wrong with the arguments has been said, and so has the help.
    if (error instanceof CommanderError) process.exitCode = error.exitCode;
    else complain(error);
  }
}

if (process.argv[1] && realpathSync(process.argv[1]) === import.meta.filename) {
  await runCommandLine(process.argv.slice(2));
  // A job that hangs, or connections that did not close, would keep the process alive. What was printed goes out first.
  process.stdout.write('', () => process.exit());
}
