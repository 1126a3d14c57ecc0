/** Judges the messages of a chaos run by the ledger of the sandbox, and does not trust our tables. */

/**
 * The judged part of a row of our table.
 *
 * @typedef {object} Row
 * @property {string} id
 * @property {string} text
 * @property {string} status
 * @property {string | null} error the code of its error
 */

/** The judged part of a line of the sandbox's ledger. @typedef {{ seq: number, from: string, text: string, duplicate: boolean }} Line */

/** @typedef {{ problem: string, text: string, row?: Row, lines?: Line[] }} Offence */

/** How many messages had each ending. @typedef {Record<'sent' | 'failed' | 'cancelled' | 'expired' | 'unknown', number>} Ends */

/**
 * @typedef {object} Verdict
 * @property {number} accepted
 * @property {number} received different messages
 * @property {number} sentAgain sent again under their id, and dropped by the recipient
 * @property {Ends} ends
 * @property {number} lost
 * @property {number} doubled
 * @property {number} disorder received after a later message of the same account and priority
 * @property {number} unknown
 * @property {number} denied reported as not sent, but received
 * @property {number} failed failed although nobody refused them
 * @property {number} unasked in our table, but never confirmed to a client
 * @property {number} misdirected sent from the number of another account
 */

const sentStatuses = new Set(['sent', 'delivered', 'read', 'played']);
/** The allowed reasons for a failure: the sandbox has to refuse some messages, and some go to a number without WhatsApp. */
const expectedErrors = new Set(['whatsapp.refused', 'recipient.not_registered']);

/**
 * @param {object} run
 * @param {Map<string, string>} run.accepted the id that the client got for each text
 * @param {Row[]} run.rows all outgoing messages of our table
 * @param {Line[]} run.ledger what the sandbox accepted, in order
 * @param {string[]} run.phones the numbers of the accounts
 * @returns {Verdict & { offences: Offence[] }}
 */
export function judge({ accepted, rows, ledger, phones }) {
  const received = ledger.filter(({ duplicate }) => !duplicate);
  const linesOf = groupBy(ledger, ({ text }) => text);
  const rowOf = new Map(rows.map((row) => [row.text, row]));
  /** @type {Offence[]} */
  const offences = [];
  const offend = (/** @type {string} */ problem, /** @type {string} */ text) =>
    offences.push({ problem, text, row: rowOf.get(text), lines: linesOf.get(text) });

  /** @type {Ends} */
  const ends = { sent: 0, failed: 0, cancelled: 0, expired: 0, unknown: 0 };
  for (const row of rows) {
    const { text, status, error } = row;
    const ending = /** @type {keyof Ends} */ (sentStatuses.has(status) ? 'sent' : status);
    const hasArrived = linesOf.get(text)?.some(({ duplicate }) => !duplicate) ?? false;
    if (ending in ends) ends[ending] += 1;
    else offend('lost', text);
    if (ending === 'sent' && !hasArrived) offend('lost', text);
    if (['failed', 'cancelled', 'expired'].includes(ending) && hasArrived) offend('denied', text);
    if (ending === 'failed' && !expectedErrors.has(error ?? '')) offend('failed', text);
    if (ending === 'unknown') offend('unknown', text);
    if (!accepted.has(text)) offend('unasked', text);
  }
  for (const [text, id] of accepted) if (rowOf.get(text)?.id !== id) offend('lost', text);
  for (const [text, lines] of groupBy(received, (line) => line.text))
    if (lines.length > 1) offend('doubled', text);
  for (const text of outOfOrder(received)) offend('disorder', text);
  for (const { from, text } of ledger) if (from !== phones[accountOf(text)]) offend('misdirected', text);

  const count = (/** @type {string} */ problem) =>
    offences.filter((offence) => offence.problem === problem).length;
  return {
    accepted: accepted.size,
    received: new Set(received.map(({ text }) => text)).size,
    sentAgain: ledger.length - received.length,
    ends,
    lost: count('lost'),
    doubled: count('doubled'),
    disorder: count('disorder'),
    unknown: count('unknown'),
    denied: count('denied'),
    failed: count('failed'),
    unasked: count('unasked'),
    misdirected: count('misdirected'),
    offences,
  };
}

/** The account number of a message. @param {string} text */
function accountOf(text) {
  return Number(text.split('/')[1]);
}

/** The messages that came after a later message of the same account and priority. @param {Line[]} received */
function outOfOrder(received) {
  /** @type {Map<string, string>} */
  const last = new Map();
  return received.flatMap(({ text }) => {
    const [, account, priority] = text.split('/');
    const lane = `${account}/${priority}`;
    // The number at the end has the same number of digits in every text.
    const isLate = text < (last.get(lane) ?? '');
    if (!isLate) last.set(lane, text);
    return isLate ? [text] : [];
  });
}

/** @template Item @param {Item[]} items @param {(item: Item) => string} keyOf */
function groupBy(items, keyOf) {
  /** @type {Map<string, Item[]>} */
  const groups = new Map();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group) group.push(item);
    else groups.set(keyOf(item), [item]);
  }
  return groups;
}
