/** Judges what a victim saw during an attack. */
import { percentiles } from './figures.mjs';

/** @typedef {import('./abuse-victim.mjs').Window} Window */

/**
 * What the victim saw in a window. Times are milliseconds.
 *
 * @typedef {object} View
 * @property {number} requests
 * @property {number} p50
 * @property {number} p95
 * @property {number} max
 * @property {number[]} gaps how long a process answered nothing, longest first, above {@link maxGapMs}
 * @property {number} errors requests without the expected answer, and broken streams
 * @property {string[]} errorsSeen some of them
 * @property {number} eventP95 from an event to its arrival in a stream
 * @property {number} webhookP95 the same for the webhook
 * @property {number} ownDelay how long the victim's own process stood still at most
 */

/**
 * The memory of the API processes and their event loops.
 *
 * @typedef {object} Cost
 * @property {number} grownBytes how much the process that grew most grew at most
 * @property {number} keptBytes how much of it was left at the end of the time for recovery
 * @property {number} backAfterMs when it was back, or the time for recovery
 * @property {number | null} loopMs the longest time that an event loop stood still, by the API's own metric
 * @property {number} restarts API processes that ended
 */

export const maxRatio = 2;
export const maxGapMs = 250;
export const maxGrowthBytes = 150e6;
/** A process that gives back at least half of the allowed growth is back: Node keeps a part of its heap for the next requests. */
export const maxKeptBytes = maxGrowthBytes / 2;

/** @param {Window} window @returns {View} */
export function viewOf({ from, samples, eventDelays, webhookDelays, brokenStreams, ownDelayMs }) {
  const { p50, p95, max } = percentiles(samples.map(({ ms }) => ms));
  const wrong = samples.filter(({ isExpected }) => !isExpected);
  const seen = new Set(wrong.map(({ kind, status }) => `${kind}: ${status}`));
  if (brokenStreams > 0) seen.add('an event stream broke');
  return {
    requests: samples.length,
    p50,
    p95,
    max,
    gaps: gapsOf(from, samples).sort((a, b) => b - a),
    errors: wrong.length + brokenStreams,
    errorsSeen: [...seen].slice(0, 5),
    eventP95: percentiles(eventDelays).p95,
    webhookP95: percentiles(webhookDelays).p95,
    ownDelay: ownDelayMs,
  };
}

/**
 * The times in which a process answered nothing although a request was due every few milliseconds.
 *
 * @param {number} from
 * @param {import('./abuse-victim.mjs').Sample[]} samples
 */
function gapsOf(from, samples) {
  const processes = [...new Set(samples.map(({ api }) => api))];
  return processes.flatMap((api) => {
    const ends = samples
      .filter((one) => one.api === api && typeof one.status === 'number')
      .map(({ due, ms }) => due + ms)
      .sort((a, b) => a - b);
    return ends.map((end, index) => end - (ends[index - 1] ?? from)).filter((gap) => gap > maxGapMs);
  });
}

/**
 * What the victim and the API's memory say against an attack.
 *
 * @param {View} before
 * @param {View} during
 * @param {Cost} cost
 * @returns {string[]}
 */
export function harmOf(before, during, cost) {
  const misses = [];
  if (before.errors > 0)
    misses.push(
      `${before.errors} errors before the attack (${before.errorsSeen.join('; ')}): the machine is too busy`,
    );
  const ratio = during.p95 / before.p95;
  if (!(ratio <= maxRatio))
    misses.push(`p95 is ${ratio.toFixed(1)} times that of before, more than ${maxRatio}`);
  if (during.gaps.length > 0) misses.push(`a gap of ${during.gaps[0]?.toFixed(0)} ms`);
  if (during.errors > 0) misses.push(`${during.errors} errors: ${during.errorsSeen.join('; ')}`);
  if (cost.restarts > 0) misses.push(`${cost.restarts} API processes ended`);
  if (cost.grownBytes > maxGrowthBytes) misses.push(`an API process grew by ${megabytes(cost.grownBytes)}`);
  if (cost.keptBytes > maxKeptBytes) misses.push(`an API process kept ${megabytes(cost.keptBytes)}`);
  return misses;
}

/**
 * What the counts of an attack say: what it reached although it should not.
 *
 * @param {import('./abuse-attacks.mjs').Outcome} outcome
 * @returns {string[]}
 */
export function breachesOf({ counts = {}, seen = {} }) {
  const misses = [];
  const { arrived, acceptedAddresses, foreign, lockedOut } = counts;
  if ('accepted' in counts) misses.push(...missedLimit(counts));
  if (arrived) misses.push(`${arrived} connections to an inner address`);
  if (acceptedAddresses) misses.push(`${acceptedAddresses} inner addresses were accepted as a proxy`);
  if (lockedOut) misses.push('a valid key was refused from the address of the flood');
  if (foreign) misses.push(`allowed: ${seen.allowed?.join(', ')}`);
  for (const [what, answers] of Object.entries({ refusals: seen.refusals, reasons: seen.reasons }))
    if (answers && answers.length > 1) misses.push(`${answers.length} different ${what}`);
  return misses;
}

/** API processes tell each other their counts about once a second: this much may be accepted beyond a limit. */
const sharedEverySeconds = 2;

/** Making the keys uses a part of the limit. */
const reachedShare = 0.9;

/** How many requests may be accepted. @param {Record<string, number>} counts */
export const allowedBy = ({ limit = 0, perSecond = 0 }) => limit + sharedEverySeconds * perSecond;

/** @param {Record<string, number>} counts */
function missedLimit(counts) {
  const { accepted = 0, sent = 0, limit = 0 } = counts;
  const allowed = Math.round(allowedBy(counts));
  if (accepted > allowed) return [`${accepted} requests were accepted, the limit is ${limit} a minute`];
  // A limit that was not reached was not tested.
  if (accepted < reachedShare * limit) return [`only ${accepted} of ${limit} requests were accepted`];
  if (sent <= allowed) return [`only ${sent} requests were sent, too few to reach the limit of ${limit}`];
  return [];
}

/** @param {number} bytes */
export const megabytes = (bytes) => `${Math.round(bytes / 1e6)} MB`;
