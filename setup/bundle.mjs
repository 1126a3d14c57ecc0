/**
 * Bundles the programs into `dist/programs`: one file for each, and the files that they share. A program that reads some
 * 1,800 modules one by one needs twice the processor time to start, and messages wait for it after each crash. The comments
 * in a bundle name the compiled file that each part comes from. With arguments, it bundles only what these programs read.
 */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';

const project = dirname(import.meta.dirname);

/** Leaves out packages that are imported on demand, and packages that are not installed. */
const onDemand = {
  name: 'on-demand',
  /** @param {import('esbuild').PluginBuild} plugin */
  setup(plugin) {
    plugin.onResolve({ filter: /^[^./]/ }, ({ path, importer, kind }) => {
      if (kind === 'entry-point' || path.startsWith('node:')) return undefined;
      if (kind === 'dynamic-import') return { path, external: true };
      try {
        createRequire(importer).resolve(path);
        return undefined;
      } catch {
        return { path, external: true };
      }
    });
  },
};

/** `@nestjs/typeorm` requires TypeORM in a way that esbuild does not see: each program would load its 300 files a second time. */
const oneTypeorm = {
  name: 'one-typeorm',
  /** @param {import('esbuild').PluginBuild} plugin */
  setup(plugin) {
    let found = false;
    plugin.onLoad({ filter: /@nestjs\/typeorm\/dist\/common\/typeorm-compat\.js$/ }, async ({ path }) => {
      const source = await readFile(path, 'utf8');
      const contents = source.replace('const require = createRequire(import.meta.url);', '');
      found = contents !== source;
      return { contents };
    });
    plugin.onEnd(() => {
      if (!found) throw new Error('@nestjs/typeorm has changed: see oneTypeorm in setup/bundle.mjs.');
    });
  },
};

/** @param {string[]} programs @param {import('esbuild').BuildOptions} options */
const bundle = (programs, options) =>
  build({
    entryPoints: Object.fromEntries(
      programs.map((program) => [program, join(project, `dist/src/roles/${program}.main.js`)]),
    ),
    outdir: join(project, 'dist/programs'),
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    logLevel: 'error',
    // Large, and read by no program: tools of the browser library. The decorators need reflect-metadata before all else, and esbuild
    // promises no order among the files that programs share: each of these files imports it first.
    external: ['typescript', 'pac-proxy-agent', 'reflect-metadata'],
    plugins: [onDemand, oneTypeorm],
    // Bundled CommonJS modules expect these names.
    banner: {
      js: [
        `import 'reflect-metadata';`,
        `import { createRequire as __createRequire } from 'node:module';`,
        `const require = __createRequire(import.meta.url);`,
        `const __filename = import.meta.filename, __dirname = import.meta.dirname;`,
      ].join('\n'),
    },
    ...options,
  });

/** @type {[string[], import('esbuild').BuildOptions][]} */
const bundles = [
  // The OpenAPI document has the names of classes, which a bundle would change where two are equal.
  [['api', 'cli', 'sandbox', 'scheduler', 'worker'], { splitting: true, keepNames: true }],
  // Its functions for the page go there as text, without the helper that keeps names.
  [['instance'], {}],
];
const wanted = process.argv.slice(2);
await Promise.all(
  bundles
    .filter(([programs]) => wanted.length === 0 || programs.some((program) => wanted.includes(program)))
    .map(([programs, options]) => bundle(programs, options)),
);
