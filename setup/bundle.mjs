/**
 * Bundles the instance into one file, `dist/instance.mjs`. An instance that reads some 1,800 modules one by one starts
 * slowly, and its accounts wait for the start. The other programs run as `nest build` made them.
 */
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

await build({
  entryPoints: [join(project, 'dist/src/roles/instance.main.js')],
  outfile: join(project, 'dist/instance.mjs'),
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  logLevel: 'error',
  // Only code that the instance does not use needs these: tools of the browser library, and the validation of requests.
  external: ['typescript', 'pac-proxy-agent', 'class-validator', 'class-transformer'],
  plugins: [onDemand],
  // Bundled CommonJS modules expect these names.
  banner: {
    js: [
      `import { createRequire as __createRequire } from 'node:module';`,
      `const require = __createRequire(import.meta.url);`,
      `const __filename = import.meta.filename, __dirname = import.meta.dirname;`,
    ].join('\n'),
  },
});
