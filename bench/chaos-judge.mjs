/** What became of the messages of a chaos run, judged by the ledger of the sandbox and not by what our tables say. */

/** @typedef {import('./chaos-judge.mjs').Row} Row */
/** @typedef {import('./chaos-judge.mjs').Line} Line */
/** @typedef {import('./chaos-judge.mjs').Offence} Offence */

const sentStatuses = new Set(['sent', 'delivered', 'read', 'played']);
const endings = ['sent', 'failed', 'cancelled', 'expired', 'unknown'];
/** Why a message may fail here: the sandbox was told to refuse, and some go to a number that has no WhatsApp. */
const expectedErrors = new Set(['whatsapp.refused', 'recipient.not_registered']);

/** @type {typeof import('./chaos-judge.mjs').judge} */
export function judge({ accepted, rows, ledger, phones }) {
  const received = ledger.filter(({ duplicate }) => !duplicate);
  const linesOf = groupBy(ledger, ({ text }) => text);
  const rowOf = new Map(rows.map((row) => [row.text, row]));
  /** @type {Offence[]} */
  const offences = [];
  const offend = (/** @type {string} */ problem, /** @type {string} */ text) =>
    offences.push({ problem, text, row: rowOf.get(text), lines: linesOf.get(text) });

  const ends = Object.fromEntries(endings.map((ending) => [ending, 0]));
  for (const row of rows) {
    const { text, status, error } = row;
    const ending = sentStatuses.has(status) ? 'sent' : status;
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
    /** Said not to have been sent, and received all the same. */
    denied: count('denied'),
    /** Failed, although nobody refused it. */
    failed: count('failed'),
    /** In our table, although no client was told so. */
    unasked: count('unasked'),
    /** Sent from another account's number. */
    misdirected: count('misdirected'),
    offences,
  };
}

/** The number of the account that a message is of. @param {string} text */
function accountOf(text) {
  return Number(text.split('/')[1]);
}

/** The messages that came after a later one of their account and priority. @param {Line[]} received */
function outOfOrder(received) {
  const last = new Map();
  return received.flatMap(({ text }) => {
    const [, account, priority] = text.split('/');
    const lane = `${account}/${priority}`;
    // The number at the end has as many digits in every text.
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
