import { realpathSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { addBacklogCommands } from '../admin/backlog.commands.js';
import { addFailedJobsCommands } from '../admin/failed-jobs.commands.js';
import { addKeyRotationCommands } from '../admin/key-rotation.commands.js';
import { addCampaignsCommands } from '../campaigns/campaigns.commands.js';
import { addMediaCommands } from '../media/media.commands.js';
import { print, type RunWithServices, wholeNumber } from '../platform/command-line.js';
import type { Config } from '../platform/config/config.js';
import { withDeadline } from '../platform/deadline.js';
import { addWorkerCommands, type WorkerSettings } from '../queues/worker.commands.js';
import { addQueuesCommands } from '../queues/queues.commands.js';
import type { WorkerOptions } from '../queues/worker-options.js';
import { addWorkspacesCommands } from '../workspaces/workspaces.commands.js';
import { addWebhooksCommands } from '../webhooks/webhooks.commands.js';

const closeMs = 2_000;

/* Each command loads its services when it runs, so that --help is fast. */
const program = new Command('flotilla')
  .description('Operates Flotilla: migrations, queues, accounts.')
  .showHelpAfterError('(add --help to see the options of the command)');

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
  .description('print the effective settings, with masked secrets')
  .option('--json', 'print JSON (the default)')
  .option('--reveal', 'do not mask the secrets')
  .action(async ({ reveal }: { reveal?: boolean }) => {
    const { maskConfig } = await import('../platform/config/config.js');
    const config = await readConfig();
    print(JSON.stringify(reveal ? config : maskConfig(config), null, 2));
  });

program
  .command('openapi:generate')
  .description('generate the OpenAPI document from the code')
  .option('--output <file>', 'the file to write; - is the standard output', 'docs/openapi.json')
  .action(async ({ output }: { output: string }) => {
    const [{ generateDocument }, { writeFile }] = await Promise.all([
      import('./api.document.js'),
      import('node:fs/promises'),
    ]);
    const document = await generateDocument();
    if (output === '-') print(document.trimEnd());
    else await writeFile(output, document);
  });

addWorkerCommands(program, work);
addQueuesCommands(program, runWithServices);
addFailedJobsCommands(program, runWithServices);
addBacklogCommands(program, runWithServices);
addWorkspacesCommands(program, runWithServices);
addKeyRotationCommands(program, runWithServices);
addWebhooksCommands(program, runWithServices);
addMediaCommands(program, runWithServices);
addCampaignsCommands(program, runWithServices);

program
  .command('demo')
  .description(
    'check the running system: link three sandbox accounts, send messages, and check that each arrived once',
  )
  .option('--messages <count>', 'number of messages, 12 to 20000', wholeNumber(12, 20_000), 60)
  .action(async ({ messages }: { messages: number }) => {
    const { runDemo } = await import('../../demo/demo.js');
    const { http, sandbox, adminApiKey, varDir, envFile } = await readConfig();
    const host = { '0.0.0.0': '127.0.0.1', '::': '[::1]' }[http.host] ?? http.host;
    await runDemo({
      apiUrl: `http://${host}:${http.port}`,
      sandboxUrl: sandbox.controlUrl,
      adminApiKey,
      messageCount: messages,
      logDir: `${varDir}/log`,
      envFile,
    });
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
  // Under supervisord the worker prints no jobs, so its log is the only output.
  const isLogged = verbose || process.env.SUPERVISOR_ENABLED !== undefined;
  const logger = createLogger('worker', isLogged ? config.logLevel : 'error', {
    toStderr: output !== 'none' || !isLogged,
    secrets: secretsOf(config),
  });
  if (output === 'text') {
    print(
      `Processing jobs from ${options.queues.join(', ')}. Ctrl-C ends the worker after its running jobs.`,
    );
  }
  const report = output === 'text' ? textReport(print) : output === 'json' ? jsonReport(print) : silentReport;
  const named = { ...config, worker: { ...config.worker, name: `${config.server.id}.${name}` } };
  try {
    process.exitCode = await runWorker(named, logger, options, report);
  } catch (error) {
    complain(error);
  }
}

/** Runs a command with the services of {@link CliModule}, and ends in bounded time even if a connection does not close. */
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
  '\nIs PostgreSQL running, and is DATABASE_URL right? To see the effective settings: flotilla config:show.';
const old = '\nThe database schema is older than this version. Update it: run flotilla migrate.';
/** The cures, by the error codes of Node and PostgreSQL. */
const cures: Record<string, string> = {
  ECONNREFUSED: away,
  ENOTFOUND: away,
  ETIMEDOUT: away,
  '57P03': away,
  '42P01': old,
  '42703': old,
};

// The caller of a command decides when the process ends.
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
