import type { Command } from 'commander';
import { print, printAside, type RunWithServices } from '../platform/command-line.js';

const progressEveryMs = 1_000;

/** `key:rotate`. */
export function addKeyRotationCommands(program: Command, run: RunWithServices): void {
  program
    .command('key:rotate')
    .description('re-encrypt, with APP_KEY, the values that are encrypted with APP_PREVIOUS_KEYS')
    .addHelpText(
      'after',
      '\nYou can interrupt this command and run it again. The exit code is 1 if values are left that APP_KEY cannot decrypt.',
    )
    .action(() =>
      run(async (services) => {
        const { KeyRotationService } = await import('./key-rotation.service.js');
        let reportedAt = Date.now();
        const outcomes = await services.get(KeyRotationService).rotate((table, done, total) => {
          if (Date.now() - reportedAt < progressEveryMs) return;
          reportedAt = Date.now();
          printAside(`${table}: ${done} of ${total}`);
        });
        for (const { table, column, rotated, failed, left } of outcomes) {
          print(`${table}.${column}: ${rotated} re-encrypted, ${left} left.`);
          if (failed.length > 0)
            printAside(
              `No key decrypts these values of ${table}. Add their keys to APP_PREVIOUS_KEYS: ${failed.join(', ')}`,
            );
        }
        if (outcomes.some(({ left }) => left > 0)) process.exitCode = 1;
        else print('APP_PREVIOUS_KEYS is no longer needed.');
      }),
    );
}
