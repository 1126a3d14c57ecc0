/**
 * The instance in one file, `dist/instance.mjs`: reading some 1,800 modules one by one is most of what its start costs, and
 * its start is on the way of every account that comes back. The other programs run as `nest build` made them.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';

const project = dirname(import.meta.dirname);

/** What is left out: packages that are loaded when they are needed, if ever, and those that are not installed. */
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
  // Needed by what the instance does not use: the browser library's own tools, and the checks of strangers' requests.
  external: ['typescript', 'pac-proxy-agent', 'class-validator', 'class-transformer'],
  plugins: [onDemand],
  // What CommonJS modules find around themselves.
  banner: {
    js: [
      `import { createRequire as __createRequire } from 'node:module';`,
      `const require = __createRequire(import.meta.url);`,
      `const __filename = import.meta.filename, __dirname = import.meta.dirname;`,
    ].join('\n'),
  },
});
