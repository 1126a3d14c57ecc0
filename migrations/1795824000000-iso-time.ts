import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * `iso_time` calls `to_char`, which is stable. As long as it claimed to be immutable PostgreSQL could not put its text in the
 * place of its calls, and parsed and planned it anew for every time in every event.
 */
export class IsoTime1795824000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('alter function iso_time stable');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('alter function iso_time immutable');
  }
}
