import { setPriority } from 'node:os';
import { Readable } from 'node:stream';
import { parentPort, workerData } from 'node:worker_threads';
import { randomBytes } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { Problem } from '../../platform/errors/problem.js';
import { zoneKeyOf } from '../sending-windows.js';
import { variableKey } from '../template.js';
import type { FromThread, PreparedLines, ThreadOptions, ToThread } from './list-thread.js';
import type { InvalidLine, ListRow, ValidLine } from './list-rows.js';
import { readList } from './read-list.js';

/* The thread of list-thread.ts. */

/** How many parts the thread reads ahead. */
const ahead = 2;
/** Requests come first. */
const niceness = 10;

const port = parentPort!;
const { required, ...options } = workerData as ThreadOptions;
const say = (message: FromThread) => port.postMessage(message);
const needed = required.map((name) => ({ name, key: variableKey(name) })).filter(({ key }) => key !== 'to');
let credits = ahead;
let wake = () => {};
let sequence = randomBytes(3).readUIntBE(0, 3);

const source = new Readable({ read: () => say({ kind: 'more' }) });
port.on('message', (message: ToThread) => {
  if (message.kind === 'bytes') source.push(message.bytes === null ? null : Buffer.from(message.bytes));
  else {
    credits += 1;
    wake();
  }
});

// On Linux this is the priority of this thread alone.
setPriority(0, niceness);
try {
  for await (const { header, rows } of readList(source, { ...options, turn: () => Promise.resolve() })) {
    while (credits === 0) await new Promise<void>((resolve) => (wake = resolve));
    credits -= 1;
    say({ kind: 'lines', lines: prepared(header, rows) });
  }
  say({ kind: 'end' });
} catch (error) {
  if (!(error instanceof Problem)) throw error;
  const { status, code, message } = error;
  say({ kind: 'problem', status, code, message });
}
port.close();

function prepared(header: readonly string[], rows: ListRow[]): PreparedLines {
  const lines: PreparedLines = {
    header,
    ids: [],
    persons: [],
    recipients: [],
    zones: [],
    variables: [],
    invalid: [],
  };
  const random = randomBytes(16 * rows.length);
  rows.forEach((row, index) => {
    const line = row.isValid ? lacking(row) : row;
    if (!line.isValid) {
      lines.invalid.push(line);
      return;
    }
    // In the order of the list.
    sequence = (sequence + 1) >>> 0;
    lines.ids.push(uuidv7({ random: random.subarray(16 * index, 16 * index + 16), seq: sequence }));
    lines.persons.push(line.person);
    lines.recipients.push(line.to);
    lines.zones.push(zoneKeyOf(line.to));
    lines.variables.push(JSON.stringify(line.variables));
  });
  return lines;
}

/** The line, or what it lacks for the message of the campaign. */
function lacking(row: ValidLine): ValidLine | InvalidLine {
  const missing = needed.find(({ key }) => row.variables[key] === undefined);
  if (!missing) return row;
  return {
    isValid: false,
    line: row.line,
    column: missing.name,
    value: row.to,
    reason: `is missing, and the message needs it: add a value, or write a fallback, for example {{${missing.name}|friend}}`,
    values: row.values,
  };
}
