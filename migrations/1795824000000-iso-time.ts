import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * `iso_time` calls `to_char`, which is stable. While `iso_time` was declared immutable, PostgreSQL could not inline it, and
 * parsed and planned it again for every time in every event.
 */
export class IsoTime1795824000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('alter function iso_time stable');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('alter function iso_time immutable');
  }
}
