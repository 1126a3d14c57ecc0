import { z } from 'zod';
import { environmentSchema } from './config.js';

/** The sections of the page, in the order of the schema. Each section begins at the named variable. */
const sections: Record<string, string> = {
  NODE_ENV: 'Processes and logs',
  HOST: 'HTTP',
  DATABASE_URL: 'PostgreSQL and Redis',
  ADMIN_API_KEY: 'Secrets',
  SERVER_ID: 'Server',
  INSTANCES: 'Instances',
  ROUTER_SHARD_SIZE: 'Placement',
  WORKERS: 'Workers',
  CHROMIUM_PATH: 'Browsers and sessions',
  SANDBOX: 'Sandbox',
  ALLOW_PRIVATE_ADDRESSES: 'Addresses of tenants',
  MEDIA_PATH: 'Media',
  PROGRAMS: 'Programs and files',
};

const introduction = `# Configuration

Settings are environment variables. The file \`.env\` supplies the variables that the environment does not set.
[.env.example](../.env.example) is the template of that file: \`npm start\` copies it and fills in the secrets.

- \`./flotilla config:show\` prints the settings in force and masks secrets. \`--reveal\` shows the secrets.
- \`ENV_FILE\` names another file. \`ENV_FILE=none\` reads no file.
- After a change, stop \`npm start\` with Ctrl-C and start it again. Under supervisord, restart the programs.
- A value that is not valid stops the start. The message names the variable and what is wrong.
- Durations end in \`_MS\` and are milliseconds.

\`npm run docs:configuration\` makes this page from the schema in \`src/platform/config/\`. Change the schema, not the page.
`;

const serverName = `## The name of a server

Without \`SERVER_ID\`, a server takes its name from \`RAILWAY_STATIC_URL\`, \`RAILWAY_SERVICE_NAME\` or \`HOSTNAME\`. The
first variable that is set counts. Without any of them, Flotilla makes a name once and keeps it in \`server-id\` in \`VAR_DIR\`.

The other \`SERVER_…\` variables tell the fleet more about the machine. A variable that is not set leaves the value as an
operator set it, with \`PATCH /admin/servers/:id\` or SQL. [operations.md](operations.md#servers) explains servers.
`;

interface Property {
  description?: string;
  defaultText?: string;
  default?: unknown;
  type?: string;
  format?: string;
  enum?: string[];
  minimum?: number;
  maximum?: number;
  minLength?: number;
  items?: Property;
}

/** docs/configuration.md as Markdown, made from the schema of the environment. Prettier aligns its tables. */
export function configurationPage(): string {
  const written = propertiesOf('input');
  const read = propertiesOf('output');
  const rows = Object.keys(read.properties).map((name) => {
    // For a list, the output schema has the limits and the input schema has the default.
    const property = { ...written.properties[name], ...read.properties[name] };
    const isRequired = written.required.includes(name);
    const cells = [`\`${name}\``, defaultOf(property, isRequired), limitsOf(property), property.description];
    return `${sectionOf(name)}| ${cells.join(' | ')} |`;
  });
  return `${introduction}${rows.join('\n')}\n\n${serverName}`;
}

function propertiesOf(io: 'input' | 'output') {
  const schema = z.toJSONSchema(environmentSchema, { io, unrepresentable: 'any' });
  return { properties: schema.properties as Record<string, Property>, required: schema.required ?? [] };
}

function sectionOf(name: string): string {
  const title = sections[name];
  if (title === undefined) return '';
  return `\n## ${title}\n\n| variable | default | limits | meaning |\n| --- | --- | --- | --- |\n`;
}

function defaultOf(property: Property, isRequired: boolean): string {
  if (property.defaultText !== undefined) return property.defaultText;
  if (isRequired) return 'none: it must be set';
  if (property.default === undefined || property.default === '') return 'empty';
  return `\`${String(property.default)}\``;
}

function limitsOf(property: Property): string {
  if (property.enum !== undefined) return property.enum.map((value) => `\`${value}\``).join(', ');
  if (property.type === 'boolean') return '`true`, `false`';
  if (property.format === 'uri') return 'an http or https URL';
  if (property.minimum !== undefined) {
    const kind = property.type === 'integer' ? 'a whole number' : 'a number';
    return `${kind} from ${property.minimum} to ${property.maximum}`;
  }
  const { minLength = 0 } = property.items ?? property;
  const each = property.items === undefined ? '' : ' each';
  return minLength > 1 ? `at least ${minLength} characters${each}` : '';
}
