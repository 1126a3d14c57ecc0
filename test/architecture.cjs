/**
 * The architecture is one line: a folder imports only folders to its left.
 * Run by `npm run architecture`.
 */
const line = [
  'platform',
  'sandbox',
  'whatsapp',
  'workspaces',
  'events',
  'queues',
  'media',
  'webhooks',
  'instances',
  'pacing',
  'accounts',
  'sessions',
  'messages',
  'sending',
  'receiving',
  'campaigns',
  'chats',
  'admin',
  'roles',
];

/** The sandbox has a line of its own; the files beside its folders are for all of them, except its module. */
const sandboxLine = ['builds', 'journal', 'network', 'wire', 'control'];

/** What the frames between the sandbox and its page contain. */
const wireTypes =
  '^src/sandbox/(builds/build|wire/frames|network/(business-profile|channel|events|faults|group|presence)|journal/(content|message-actions|queued-event))\\.ts$';

/**
 * @param {string} folder
 * @param {string[]} folders
 */
const leftOf = (folder, folders = line) => folders.slice(0, folders.indexOf(folder) + 1);

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    ...line.map((folder) => ({
      name: `${folder}-imports-only-leftwards`,
      severity: 'error',
      from: { path: `^src/${folder}/` },
      to: { path: '^src/', pathNot: `^src/(${leftOf(folder).join('|')})/` },
    })),
    {
      name: 'the-demo-uses-the-public-client-only',
      severity: 'error',
      from: { path: '^demo/' },
      to: { dependencyTypes: ['local'], pathNot: '^(demo|clients/typescript/src)/' },
    },
    {
      name: 'every-folder-is-in-the-line',
      comment: 'A new folder gets its place in test/architecture.cjs.',
      severity: 'error',
      from: {},
      to: { path: '^src/[^/]+/', pathNot: `^src/(${line.join('|')})/` },
    },
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    ...sandboxLine.map((folder) => ({
      name: `sandbox-${folder}-imports-only-leftwards`,
      severity: 'error',
      from: { path: `^src/sandbox/${folder}/` },
      to: {
        path: '^src/sandbox/.*(/|module\\.ts$)',
        pathNot: `^src/sandbox/(${leftOf(folder, sandboxLine).join('|')})/`,
      },
    })),
    {
      name: 'sandbox-has-no-cycles',
      comment: 'Not even cycles of types, which are allowed elsewhere, also in the page.',
      severity: 'error',
      from: { path: '^src/sandbox/', pathNot: '^src/sandbox/page/' },
      to: { circular: true },
    },
    {
      name: 'one-door-to-whatsapp-web-js',
      comment: 'src/whatsapp is the only importer of whatsapp-web.js and puppeteer.',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/whatsapp/' },
      to: { path: 'node_modules/(whatsapp-web\\.js|puppeteer)' },
    },
    {
      name: 'no-browser-outside-instances',
      comment: 'No Chromium code is reachable from api, worker, scheduler, cli or sandbox.',
      severity: 'error',
      from: { path: '^src/roles/(api|worker|scheduler|cli|sandbox)\\.main\\.ts$' },
      to: {
        path: '^src/whatsapp/|node_modules/(whatsapp-web\\.js|puppeteer)',
        // Types of what the page says are no browser, and neither is the list of its notices.
        pathNot:
          '^src/whatsapp/(message-target|in-page/page-(functions|modules)|notices|outgoing-content)\\.ts$',
        reachable: true,
      },
    },
    {
      name: 'in-page-imports-types-only',
      comment: 'What runs inside Chromium is sent there as text: nothing that it imports comes along.',
      severity: 'error',
      from: { path: '^src/whatsapp/in-page/' },
      to: { dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'edges-hold-no-sql',
      comment: 'Controllers, processors, listeners and tasks call services; TypeORM belongs to those.',
      severity: 'error',
      from: { path: '\\.(controller|internal|processor|listener|task|commands)\\.ts$' },
      to: { path: 'node_modules/(typeorm|pg|@nestjs/typeorm)/' },
    },
    {
      name: 'edges-are-attached-by-roles',
      comment: 'A process that loads a processor consumes its queue: only role modules list edges.',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/roles/' },
      to: { path: '\\.(controller|internal|processor|listener|task|commands)\\.ts$' },
    },
    {
      name: 'page-imports-only-itself',
      comment:
        'The page of the sandbox runs in Chromium: of the server it imports the types of the wire, and nothing else.',
      severity: 'error',
      from: { path: '^src/sandbox/page/' },
      to: { pathNot: '^src/sandbox/(page/|wire/frames\\.ts$)' },
    },
    {
      name: 'wire-types-are-types',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: wireTypes, dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'wire-types-import-only-each-other',
      comment: 'They compile for Node and for Chromium.',
      severity: 'error',
      from: { path: wireTypes },
      to: { pathNot: wireTypes },
    },
    {
      name: 'nobody-imports-the-page',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/sandbox/page/' },
      to: { path: '^src/sandbox/page/' },
    },
    { name: 'no-barrels', severity: 'error', from: {}, to: { path: '^src/.*/index\\.ts$' } },
    {
      name: 'nothing-unresolvable',
      severity: 'error',
      from: { path: '^(src|demo)/' },
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
    },
  },
};
