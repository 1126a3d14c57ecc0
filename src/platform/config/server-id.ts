import { randomBytes } from 'node:crypto';
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** The environment variables that may name a server, the most explicit first. */
export const serverIdSources = [
  'SERVER_ID',
  'RAILWAY_STATIC_URL',
  'RAILWAY_SERVICE_NAME',
  'HOSTNAME',
] as const;

/** Names that have another meaning in a database, in a log, or for an operator. */
const reserved = new Set(['null', 'undefined', 'none', 'admin', 'root', 'system']);

/**
 * The name of this server in the fleet: the first source that is set. Without a source, Flotilla makes a name once and keeps
 * it in `<varDir>/server-id`, so that the server has the same name after a restart.
 * @throws Error that names the source and what is wrong. An invalid name is not corrected, because the result could be the
 *   name of another server.
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
  if (problem) throw new Error(`${source} is "${id}": a server id ${problem}. Set SERVER_ID to a valid id.`);
  return id;
}

/** What is wrong with a server id. Undefined if it is valid. */
export function serverIdProblem(id: string): string | undefined {
  if (id.length < 3 || id.length > 128) return 'has 3 to 128 characters';
  if (id.includes('..') || id.includes('//')) return 'may not contain ".." or "//"';
  if (!/^[A-Za-z0-9_.-]+$/.test(id)) return 'consists of letters, digits, "_", "." and "-"';
  if (reserved.has(id.toLowerCase())) return 'may not be a reserved word (null, admin, root, system, …)';
  return undefined;
}

/**
 * Several programs of a server may start at the same time. A hard link makes the complete file appear at once, the first
 * program wins, and all programs read the same name.
 */
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
