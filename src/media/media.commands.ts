import type { Command } from 'commander';
import { print, printAside, printList, type RunWithServices, wholeNumber } from '../platform/command-line.js';
import type { StorageFinding } from './media-blobs.service.js';

const dayMs = 86_400_000;

/** `media:prune`, `media:check`. */
export function addMediaCommands(program: Command, run: RunWithServices): void {
  program
    .command('media:prune')
    .description(
      'forget media that nobody has used for long; the scheduler does it by itself after MEDIA_RETENTION_DAYS',
    )
    .option('--days <count>', 'how long; MEDIA_RETENTION_DAYS unless given', wholeNumber(0, 36_500))
    .addHelpText(
      'after',
      '\nWhat a message needs that is not sent yet stays. Bytes that nobody refers to any more leave the storage.\n\nExamples:\n  flotilla media:prune\n  flotilla media:prune --days=7',
    )
    .action(({ days }: { days?: number }) =>
      run(async (services) => {
        const { MediaBlobsService } = await import('./media-blobs.service.js');
        const blobs = services.get(MediaBlobsService);
        const pruned = await blobs.prune(days === undefined ? undefined : days * dayMs);
        print(`${pruned} media forgotten, ${await blobs.removeUnused()} files removed from the storage.`);
      }),
    );

  program
    .command('media:check')
    .description(
      'compare the media in PostgreSQL with what lies in the storage; exits with 1 when something is wrong',
    )
    .option('--remove-strays', 'remove the files that belong to nothing')
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      `
missing  the row is there and its file is not: upload it again, or restore it from a backup
damaged  the file has another length than it should
stray    a file of ours, older than a day, that no row knows: for example after a database was restored from a backup.
         Files that are not named as ours are left alone; but another Flotilla must have a storage of its own

Examples:
  flotilla media:check
  flotilla media:check --remove-strays`,
    )
    .action(({ removeStrays, json }: { removeStrays?: boolean; json?: boolean }) =>
      run(async (services) => {
        const { MediaBlobsService } = await import('./media-blobs.service.js');
        const blobs = services.get(MediaBlobsService);
        const found: StorageFinding[] = [];
        let removed = 0;
        for await (const finding of blobs.check()) {
          if (removeStrays && finding.problem === 'stray') {
            await blobs.removeStray(finding.key);
            removed += 1;
          } else found.push(finding);
        }
        if (removed > 0) printAside(`${removed} stray files are removed.`);
        if (found.length > 0) process.exitCode = 1;
        await printList(found, {
          json,
          none: 'Every media has its file, and every file its media.',
          head: ['Problem', 'File', 'Media'],
          row: ({ problem, key, mediaIds }) => [problem, key, mediaIds.join('\n')],
        });
      }),
    );
}
