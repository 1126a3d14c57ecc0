import { randomBytes } from 'node:crypto';
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Where a server's name may come from, the most explicit first. */
export const serverIdSources = [
  'SERVER_ID',
  'RAILWAY_STATIC_URL',
  'RAILWAY_SERVICE_NAME',
  'HOSTNAME',
] as const;

/** Names that mean something else to a database, a log, or an operator. */
const reserved = new Set(['null', 'undefined', 'none', 'admin', 'root', 'system']);

/**
 * The name of this server in the fleet: the first source that is set, else one that is made once and kept in
 * `<varDir>/server-id`, so that a restart is the same server.
 * @throws Error naming the source and what is wrong with it: a name that was cut or replaced could be another server's
 */
export function resolveServerId(
  environment: Partial<Record<(typeof serverIdSources)[number], string>>,
  varDir: string,
): string {
  const source = serverIdSources.find((name) => environment[name]);
  if (source) return validServerId(environment[source]!, source);
  const file = join(varDir, 'server-id');
  return validServerId(readOrMake(file), file);
}

function validServerId(id: string, source: string): string {
  const problem = serverIdProblem(id);
  if (problem) throw new Error(`${source} is "${id}": a server id ${problem}. Set SERVER_ID to a valid one.`);
  return id;
}

/** What is wrong with a server id; undefined when nothing is. */
export function serverIdProblem(id: string): string | undefined {
  if (id.length < 3 || id.length > 128) return 'has 3 to 128 characters';
  if (id.includes('..') || id.includes('//')) return 'may not contain ".." or "//"';
  if (!/^[A-Za-z0-9_.-]+$/.test(id)) return 'consists of letters, digits, "_", "." and "-"';
  if (reserved.has(id.toLowerCase())) return 'may not be a reserved word (null, admin, root, system, …)';
  return undefined;
}

/** Several programs of a server may start at once: the file appears whole, the first one's stays, all read the same. */
function readOrMake(file: string): string {
  if (!existsSync(file)) make(file);
  return readFileSync(file, 'utf8').trim();
}

function make(file: string): void {
  const id = `server-${Date.now()}-${randomBytes(4).toString('hex')}`;
  const draft = `${file}.${id}`;
  mkdirSync(join(file, '..'), { recursive: true });
  try {
    writeFileSync(draft, `${id}\n`);
    linkSync(draft, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}
