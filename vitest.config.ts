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
const filesAtOnce = 3;

export default defineConfig({
  test: {
    projects: [
      {
        plugins: [decorators],
        test: {
          name: 'unit',
          include: ['test/**/*.spec.ts'],
          exclude: ['test/e2e/**', 'test/sandbox/**'],
          maxWorkers: filesAtOnce,
          testTimeout: 20_000,
        },
      },
      {
        plugins: [decorators],
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.spec.ts', 'test/sandbox/**/*.spec.ts'],
          maxWorkers: filesAtOnce,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
