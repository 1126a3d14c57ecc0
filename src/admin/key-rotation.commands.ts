import type { Command } from 'commander';
import { print, printAside, type RunWithServices } from '../platform/command-line.js';

const progressEveryMs = 1_000;

/** `key:rotate`. */
export function addKeyRotationCommands(program: Command, run: RunWithServices): void {
  program
    .command('key:rotate')
    .description('encrypt anew, with APP_KEY, what the keys in APP_PREVIOUS_KEYS have encrypted')
    .addHelpText(
      'after',
      '\nIt can be broken off and run again. The exit code is 1 while anything is left that APP_KEY does not open.',
    )
    .action(() =>
      run(async (services) => {
        const { KeyRotationService } = await import('./key-rotation.service.js');
        let toldAt = Date.now();
        const outcomes = await services.get(KeyRotationService).rotate((table, done, of) => {
          if (Date.now() - toldAt < progressEveryMs) return;
          toldAt = Date.now();
          printAside(`${table}: ${done} of ${of}`);
        });
        for (const { table, column, rotated, failed, left } of outcomes) {
          print(`${table}.${column}: ${rotated} encrypted anew, ${left} left.`);
          if (failed.length > 0)
            printAside(
              `No key opens these of ${table}; add theirs to APP_PREVIOUS_KEYS: ${failed.join(', ')}`,
            );
        }
        if (outcomes.some(({ left }) => left > 0)) process.exitCode = 1;
        else print('Nothing needs APP_PREVIOUS_KEYS any more.');
      }),
    );
}
