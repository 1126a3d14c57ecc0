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

export default defineConfig({
  test: {
    projects: [
      {
        plugins: [decorators],
        test: {
          name: 'unit',
          include: ['test/**/*.spec.ts'],
          exclude: ['test/e2e/**', 'test/sandbox/**'],
          testTimeout: 20_000,
        },
      },
      {
        plugins: [decorators],
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.spec.ts', 'test/sandbox/**/*.spec.ts'],
          // Each file runs a whole system with browsers, and waits for it most of the time.
          maxWorkers: 3,
          sequence: { groupOrder: 1 },
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
