/**
 * Checks that PostgreSQL and Redis answer. A failure says how to fix it.
 * Used after the npm packages are installed: it connects to PostgreSQL with the `pg` package, as the programs do.
 */
import { readFileSync } from 'node:fs';
import { connect as connectTcp, isIP } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { SetupError } from './console.mjs';
import { waitFor } from './processes.mjs';

const CONNECT_TIMEOUT_MS = 8000;
const OLDEST_POSTGRES = 13;
/** The codes of Node.js for a certificate of an unknown CA, of another host, or of another time. */
const CERTIFICATE_ERRORS = /^(SELF_SIGNED_CERT|DEPTH_ZERO_SELF_SIGNED_CERT|UNABLE_TO_|CERT_|ERR_TLS_CERT_)/;

/**
 * Runs SQL on one connection, one statement after the other.
 *
 * @template {import('pg').QueryResultRow} [Row=Record<string, unknown>]
 * @param {string} url
 * @param {readonly string[]} statements
 * @returns {Promise<Row[]>} the rows of the last one
 */
export async function query(url, statements) {
  const { default: pg } = await import('pg');
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    application_name: 'flotilla-setup',
  });
  client.on('error', () => {});
  try {
    await client.connect();
    /** @type {Row[]} */
    let rows = [];
    for (const statement of statements) {
      /** @type {import('pg').QueryResult<Row>} */
      const result = await client.query(statement);
      rows = result.rows;
    }
    return rows;
  } finally {
    await client.end().catch(() => {});
  }
}

/** PostgreSQL's error code for an action that a role may not do. */
const INSUFFICIENT_PRIVILEGE = '42501';
const DROP_LIMIT_MS = 8_000;

/**
 * Drops a database and closes its connections. The owner of a database may not end an autovacuum worker that works on it.
 * The worker finishes soon, so dropping is tried again.
 *
 * @param {string} server
 * @param {string} name
 */
export async function dropDatabase(server, name) {
  /** @type {unknown} */
  let refusal;
  const dropped = await waitFor(
    async () => {
      try {
        await query(server, [`drop database if exists ${name} with (force)`]);
        return true;
      } catch (error) {
        const { code } = /** @type {{ code?: string }} */ (error);
        if (code !== INSUFFICIENT_PRIVILEGE) throw error;
        refusal = error;
        return false;
      }
    },
    { timeoutMs: DROP_LIMIT_MS },
  );
  if (!dropped) throw refusal;
}

/**
 * @param {string} url
 * @param {string} [setting] the setting that the URL came from
 */
export async function checkPostgres(url, setting = 'DATABASE_URL') {
  const where = parse(url, setting, ['postgres:', 'postgresql:']);
  let rows;
  try {
    rows = await query(url, ["select current_setting('server_version_num')::int / 10000 as major"]);
  } catch (error) {
    throw new SetupError(postgresSentence(error, where, setting), { cause: error });
  }
  const major = Number(rows[0]?.major);
  if (major < OLDEST_POSTGRES) {
    throw new SetupError(
      `The PostgreSQL of ${setting} (${where.hostname}) is version ${major}. Flotilla needs ${OLDEST_POSTGRES} or newer: upgrade it or set ${setting} to another server.`,
    );
  }
}

/**
 * @param {unknown} error
 * @param {URL} where
 * @param {string} setting
 */
function postgresSentence(error, where, setting) {
  const { code, message } = /** @type {NodeJS.ErrnoException} */ (error);
  const user = decodeURIComponent(where.username) || '(none)';
  const database = decodeURIComponent(where.pathname.slice(1)) || user;
  if (code === '28P01' || code === '28000' || /password|SASL/i.test(message)) {
    return `PostgreSQL at ${where.host} refuses the user "${user}" of ${setting} (${message}). Correct the user and password in ${setting}.`;
  }
  if (code === '3D000') {
    return `PostgreSQL at ${where.host} has no database "${database}". Create it (createdb --owner=${user} ${database}) or correct ${setting}.`;
  }
  return (
    networkSentence(error, where, 'PostgreSQL', setting, 5432) ??
    `PostgreSQL at ${where.host} says: ${message}. Check ${setting}.`
  );
}

/**
 * @param {string} url
 * @param {string} [caFile] of REDIS_CA_FILE
 */
export async function checkRedis(url, caFile) {
  const setting = 'REDIS_URL';
  const where = parse(url, setting, ['redis:', 'rediss:']);
  let ca;
  try {
    ca = caFile ? readFileSync(caFile) : undefined;
  } catch (error) {
    const { message } = /** @type {Error} */ (error);
    throw new SetupError(`REDIS_CA_FILE cannot be read (${message}). Correct it in .env.`, { cause: error });
  }
  let answer;
  try {
    answer = await pingRedis(where, ca);
  } catch (error) {
    const message = /** @type {Error} */ (error).message;
    throw new SetupError(
      networkSentence(error, where, 'Redis', setting, 6379) ??
        `Redis at ${where.host} says: ${message}. Check ${setting}.`,
      { cause: error },
    );
  }
  if (/NOAUTH|WRONGPASS|invalid password|AUTH/i.test(answer)) {
    throw new SetupError(
      `Redis at ${where.host} refuses the password of ${setting} (${answer}). Correct it: redis://USER:PASSWORD@HOST:PORT.`,
    );
  }
  if (!answer.startsWith('+PONG'))
    throw new SetupError(`Redis at ${where.host} says: ${answer}. Check ${setting}.`);
}

/**
 * AUTH, SELECT and PING over a plain socket.
 *
 * @param {URL} where
 * @param {Buffer} [ca]
 * @returns {Promise<string>} the first error that Redis answers, or +PONG
 */
function pingRedis(where, ca) {
  const host = where.hostname.replace(/^\[|\]$/g, '');
  const port = Number(where.port || 6379);
  /** @type {string[][]} */
  const commands = [];
  const password = decodeURIComponent(where.password);
  const username = decodeURIComponent(where.username);
  if (password) commands.push(username ? ['AUTH', username, password] : ['AUTH', password]);
  const database = where.pathname.slice(1);
  if (database) commands.push(['SELECT', database]);
  commands.push(['PING']);

  return new Promise((resolve, reject) => {
    const tls = { host, port, ...(ca ? { ca } : {}), ...(isIP(host) ? {} : { servername: host }) };
    const socket = where.protocol === 'rediss:' ? connectTls(tls) : connectTcp({ host, port });
    const done = (/** @type {() => void} */ settle) => {
      socket.destroy();
      settle();
    };
    socket.setTimeout(CONNECT_TIMEOUT_MS, () =>
      done(() => reject(Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' }))),
    );
    socket.once('error', (error) => done(() => reject(error)));
    socket.once('close', () =>
      reject(Object.assign(new Error('the connection was closed'), { code: 'ECONNRESET' })),
    );
    let text = '';
    socket.setEncoding('utf8').on('data', (chunk) => {
      text += chunk;
      const lines = text.split('\r\n').slice(0, -1);
      const refusal = lines.find((line) => line.startsWith('-'));
      if (refusal) done(() => resolve(refusal.slice(1)));
      else if (lines.length >= commands.length) done(() => resolve(lines.at(-1) ?? ''));
    });
    const encode = (/** @type {string[]} */ words) =>
      `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`;
    socket.write(commands.map(encode).join(''));
  });
}

/**
 * @param {string} url
 * @param {string} setting
 * @param {readonly string[]} protocols
 */
function parse(url, setting, protocols) {
  const where = URL.canParse(url) ? new URL(url) : undefined;
  if (!where || !protocols.includes(where.protocol)) {
    const example =
      protocols[0] === 'redis:'
        ? 'redis://:PASSWORD@HOST:6379'
        : 'postgresql://USER:PASSWORD@HOST:5432/DATABASE';
    throw new SetupError(
      `${setting} is not a URL of the form ${example} (special characters in the password are written as %XX). Correct it in .env.`,
    );
  }
  return where;
}

/**
 * @param {unknown} error
 * @param {URL} where
 * @param {string} product
 * @param {string} setting
 * @param {number} defaultPort
 */
function networkSentence(error, where, product, setting, defaultPort) {
  const { code = '', message } = /** @type {NodeJS.ErrnoException} */ (error);
  const port = where.port || defaultPort;
  if (CERTIFICATE_ERRORS.test(code)) {
    const cure =
      product === 'Redis'
        ? 'Set REDIS_CA_FILE to a file with the certificate of its CA, and use the host name of the certificate.'
        : 'Add ?sslmode=verify-full&sslrootcert=FILE with the certificate of its CA, and use the host name of the certificate.';
    return `The certificate of ${product} at ${where.hostname}:${port} of ${setting} cannot be trusted (${message}). ${cure}`;
  }
  if (code === 'ENOENT' || code === 'EACCES') {
    return `A file that ${setting} names cannot be read (${message}). Correct its path, for example sslrootcert.`;
  }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    return `The host "${where.hostname}" of ${setting} is not known. Correct its name or check the DNS.`;
  }
  if (code === 'ECONNREFUSED' || (error instanceof AggregateError && !message)) {
    return `Nothing answers at ${where.hostname}:${port} of ${setting}. Start ${product} there or correct the port.`;
  }
  if (code === 'ETIMEDOUT' || code === 'EHOSTUNREACH' || code === 'ENETUNREACH' || /timeout/i.test(message)) {
    return `${where.hostname}:${port} of ${setting} cannot be reached. Check the address, the network and the firewall.`;
  }
  if (code === 'ECONNRESET' || /terminated/i.test(message)) {
    return `What answers at ${where.hostname}:${port} of ${setting} is not ${product}, or it closes the connection. Correct the port, or the TLS setting.`;
  }
  return undefined;
}
