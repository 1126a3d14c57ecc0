/**
 * Makes the `.env` from `.env.example` with new secrets. An existing file gets missing secrets only.
 */
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { parseEnv } from 'node:util';

/** A generator for each secret. @type {Record<string, () => string>} */
export const secrets = {
  ADMIN_API_KEY: () => `fla_${randomBytes(24).toString('base64url')}`,
  INTERNAL_API_KEY: () => `fli_${randomBytes(24).toString('base64url')}`,
  APP_KEY: () => randomBytes(32).toString('base64'),
  EMBEDDED_PASSWORD: () => randomBytes(18).toString('base64url'),
};

/** New values for all secrets. @returns {Record<string, string>} */
export const generateSecrets = () =>
  Object.fromEntries(Object.entries(secrets).map(([name, make]) => [name, make()]));

/**
 * The file with the settings; undefined for `ENV_FILE=none`.
 *
 * @param {string} project
 * @param {NodeJS.ProcessEnv} [environment]
 */
export function envFilePath(project, environment = process.env) {
  if (environment.ENV_FILE === 'none') return undefined;
  return environment.ENV_FILE || join(project, '.env');
}

/**
 * The settings in a file; empty without a file.
 *
 * @param {string | undefined} file
 * @returns {Record<string, string>}
 */
export function readEnvFile(file) {
  if (!file || !existsSync(file)) return {};
  return /** @type {Record<string, string>} */ (parseEnv(readFileSync(file, 'utf8')));
}

/**
 * Makes the file, or adds missing secrets to it. Everything else in it stays as it is.
 *
 * @param {{ file: string, example: string, environment?: NodeJS.ProcessEnv }} options
 *   an existing file gets no secret that is set in `environment`
 * @returns {'created' | 'completed' | 'unchanged'}
 */
export function ensureEnvFile({ file, example, environment = process.env }) {
  const exists = existsSync(file);
  const before = readFileSync(exists ? file : example, 'utf8');
  const values = parseEnv(before);

  let text = before;
  for (const [name, make] of Object.entries(secrets)) {
    if (values[name] || (exists && environment[name])) continue;
    const line = `${name}=${make()}`;
    const empty = new RegExp(`^[ \\t]*(export[ \\t]+)?${name}[ \\t]*=[ \\t]*(''|"")?[ \\t]*(#.*)?$`, 'm');
    if (empty.test(text)) text = text.replace(empty, () => line);
    else text = `${text.endsWith('\n') || text === '' ? text : `${text}\n`}${line}\n`;
  }
  if (exists && text === before) return 'unchanged';

  // Renaming replaces the file at once: a full disk or a crash never leaves half a file.
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    writeFileSync(temporary, text, { mode: 0o600 });
    chmodSync(temporary, 0o600);
    if (exists && process.getuid?.() === 0) {
      const { uid, gid } = statSync(file);
      chownSync(temporary, uid, gid);
    }
    renameSync(temporary, file);
  } finally {
    rmSync(temporary, { force: true });
  }
  return exists ? 'completed' : 'created';
}
