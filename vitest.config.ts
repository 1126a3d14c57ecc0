import swc from 'unplugin-swc';
import { defineConfig } from 'vitest/config';

/** Decorators and their metadata, as `nest build` compiles them. */
const decorators = swc.vite({
  jsc: {
    parser: { syntax: 'typescript', decorators: true },
    transform: { legacyDecorator: true, decoratorMetadata: true },
    target: 'es2022',
  },
});

/** More than the two processors that are counted on: most files wait most of the time, for a whole system or for time itself. */
const filesAtOnce = 4;

/**
 * Files of a project share processes: importing NestJS, TypeORM and whatsapp-web.js again costs more than most files do. A file
 * puts back what it changes in its process: the clock, globals, spies, the dispatcher of `fetch`.
 */
const isolate = false;

const unit = ['test/**/*.unit.spec.ts'];
const endToEnd = ['test/e2e/**/*.spec.ts', 'test/sandbox/**/*.spec.ts'];

export default defineConfig({
  test: {
    projects: [
      {
        plugins: [decorators],
        test: {
          // Needs no database, no browser and no set-up: `npm run test:unit`. What does need one fails here.
          name: 'unit',
          isolate,
          include: unit,
          env: { DATABASE_URL: '', REDIS_URL: '', CHROMIUM_PATH: '/no/browser/in/unit/tests' },
          maxWorkers: filesAtOnce,
          testTimeout: 20_000,
        },
      },
      {
        plugins: [decorators],
        test: {
          // Parts of the system on a real PostgreSQL, Redis or browser.
          name: 'integration',
          isolate,
          include: ['test/**/*.spec.ts'],
          exclude: [...unit, ...endToEnd],
          maxWorkers: filesAtOnce,
          testTimeout: 20_000,
        },
      },
      {
        plugins: [decorators],
        test: {
          // Whole systems, used as their users do.
          name: 'e2e',
          isolate,
          include: endToEnd,
          maxWorkers: filesAtOnce,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
