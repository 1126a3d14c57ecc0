import type { Command } from 'commander';
import { print, printAside, printList, type RunWithServices, wholeNumber } from '../platform/command-line.js';
import type { StorageFinding } from './media-blobs.service.js';

const dayMs = 86_400_000;

/** `media:prune`, `media:check`. */
export function addMediaCommands(program: Command, run: RunWithServices): void {
  program
    .command('media:prune')
    .description(
      'delete media that were not used for long; the scheduler does this after MEDIA_RETENTION_DAYS',
    )
    .option(
      '--days <count>',
      'not used for so many days; without it MEDIA_RETENTION_DAYS',
      wholeNumber(0, 36_500),
    )
    .addHelpText(
      'after',
      '\nMedia of messages that are not sent yet stay. Files without media are removed from the storage.\n\nExamples:\n  flotilla media:prune\n  flotilla media:prune --days=7',
    )
    .action(({ days }: { days?: number }) =>
      run(async (services) => {
        const { MediaBlobsService } = await import('./media-blobs.service.js');
        const blobs = services.get(MediaBlobsService);
        const pruned = await blobs.prune(days === undefined ? undefined : days * dayMs);
        print(`${pruned} media deleted, ${await blobs.removeUnused()} files removed from the storage.`);
      }),
    );

  program
    .command('media:check')
    .description(
      'compare the media in PostgreSQL with the files in the storage; exits with 1 if it finds a problem',
    )
    .option('--remove-strays', 'remove the stray files')
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      `
missing  the media has a row but no file: upload the file again, or restore it from a backup
damaged  the file has a wrong length: restore it from a backup
stray    a file older than a day without a row, for example after the database was restored from a backup.
         Only files with names of Flotilla count: another Flotilla must have a storage of its own

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
        if (removed > 0) printAside(`Removed ${removed} stray files.`);
        if (found.length > 0) process.exitCode = 1;
        await printList(found, {
          json,
          none: 'No problems: every media has its file, and every file has its media.',
          head: ['Problem', 'File', 'Media'],
          row: ({ problem, key, mediaIds }) => [problem, key, mediaIds.join('\n')],
        });
      }),
    );
}
