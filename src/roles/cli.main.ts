import { Command, InvalidArgumentError } from 'commander';
import { loadConfig, maskConfig } from '../platform/config/config.js';

/* Each command loads what it needs when it runs, so that --help is there at once. */
const program = new Command('flotilla')
  .description('Operates Flotilla: migrations, queues, accounts.')
  .showHelpAfterError();

program
  .command('migrate')
  .description('bring the database schema up to date')
  .action(async () => {
    const { migrate } = await import('../platform/database/migrate.js');
    const names = await migrate(loadConfig());
    print(names.length === 0 ? 'The schema is up to date.' : `Migrated: ${names.join(', ')}.`);
  });

program
  .command('config:show')
  .description('print the effective settings; secrets are masked')
  .option('--json', 'as JSON (the default, for scripts to say so)')
  .option('--reveal', 'show the secrets too')
  .action(({ reveal }: { reveal?: boolean }) => {
    const config = loadConfig();
    print(JSON.stringify(reveal ? config : maskConfig(config), null, 2));
  });

program
  .command('queue:work')
  .description('consume queues in strict order until stopped')
  .option('--queue <names>', 'the queues, the most important first, separated by commas')
  .action(async ({ queue }: { queue?: string }) => {
    const { runWorker } = await import('./worker.main.js');
    await runWorker(queue?.split(','));
  });

program
  .command('demo')
  .description(
    'show the running system at work: link three sandbox accounts, send, and check that all arrived once',
  )
  .option('--messages <count>', 'how many messages, 12 to 20000', countOfMessages, 60)
  .action(async ({ messages }: { messages: number }) => {
    const { runDemo } = await import('../admin/demo.js');
    await runDemo(loadConfig(), messages);
  });

function countOfMessages(text: string): number {
  const count = Number(text);
  if (/^\d+$/.test(text) && count >= 12 && count <= 20_000) return count;
  throw new InvalidArgumentError('It must be a whole number from 12 to 20000.');
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

try {
  await program.parseAsync();
} catch (error) {
  const text = error instanceof Error ? error.message : String(error);
  process.stderr.write(`${text || String(error)}\n`);
  process.exitCode = 1;
}
