import { getCountry } from 'countries-and-timezones';
import { parsePhoneNumberFromString } from 'libphonenumber-js/max';
import metadata from 'libphonenumber-js/max/metadata';
import { LRUCache } from 'lru-cache';
import { IANAZone } from 'luxon';
import { ValidationFailed } from '../platform/errors/problem.js';

/*
 * When a message of a campaign may leave: inside the windows, and outside the quiet hours, by the clocks of the recipient or of one zone.
 *
 * The clock of a recipient is that of the country of the number. Where a country has several zones, a moment is allowed only if it is
 * allowed in all of them, because a mobile number does not tell where its owner is. Only numbers of the United States tell more: area code
 * 808 is Hawaii, 907 is Alaska, and the others are the mainland. Recipients without a country (hidden numbers, groups, satellite phones)
 * have the zone of the campaign or of the workspace.
 */

export const days = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const;
export type Day = (typeof days)[number];

/** A part of certain days. Times are `HH:MM`, `to` may be `24:00`. If `to` is before `from`, the window ends on the next day. */
export interface SendingWindow {
  /** The days on which it begins. Default: every day. */
  days?: readonly Day[] | null;
  from: string;
  to: string;
}

/** Without windows, every time outside the quiet hours is allowed. Without both, every time. */
export interface SendingTimes {
  windows?: readonly SendingWindow[] | null;
  quietHours?: { from: string; to: string } | null;
  /** Whose clock counts: `recipient` (default), or the name of a zone such as `Asia/Jakarta` for everybody. */
  timeZone?: string | null;
}

/** Sending times as {@link compileSendingTimes} makes them. */
export interface SendingPlan {
  /** The allowed parts of a week by the clock, in milliseconds since Monday 00:00, in order and apart. Null: the whole week. */
  readonly open: readonly Span[] | null;
  readonly closed: readonly Span[];
  /** The zone of everybody. Null: the zones of each recipient. */
  readonly zone: IANAZone | null;
  /** The zone of recipients without a country. */
  readonly fallback: IANAZone;
}

interface Span {
  from: number;
  to: number;
}

/** The key of recipients whose number tells no country. */
export const unknownZoneKey = 'ZZ';
export const timePattern = /^(?:(?:[01]\d|2[0-3]):[0-5]\d|24:00)$/;

const minuteMs = 60_000;
const dayMs = 24 * 60 * minuteMs;
const weekMs = 7 * dayMs;
/** 1970 began on a Thursday. */
const mondayOffsetMs = 3 * dayMs;
/** If no moment of so long a time is allowed, none ever is. The longest pause is a week, and a change of the clocks can skip a window. */
const horizonMs = 15 * dayMs;

/** Whether this is the name of a zone that the clocks of this server know, such as `Asia/Jakarta`. */
export function isTimeZone(name: string): boolean {
  return /^[A-Za-z][\w+/-]{0,63}$/.test(name) && IANAZone.isValidZone(name);
}

/**
 * Checks sending times, and prepares them for {@link nextAllowed}.
 * @param workspaceZone the zone of recipients without a country
 * @param path what stands before the names of the fields in an error, for example `campaign.`
 * @throws ValidationFailed if no moment of a week is allowed, or a time or a zone is wrong
 */
export function compileSendingTimes(
  { windows, quietHours, timeZone }: SendingTimes,
  { workspaceZone = 'UTC', path = '' }: { workspaceZone?: string; path?: string } = {},
): SendingPlan {
  const zone = timeZone == null || timeZone === 'recipient' ? null : zoneNamed(timeZone, `${path}timeZone`);
  const fallback = zone ?? zoneNamed(workspaceZone, 'workspace.timeZone');
  if (windows && windows.length === 0)
    throw invalid(`${path}windows`, 'must have a window. Leave it out to allow all times');
  const opened = windows
    ? merged(windows.flatMap((window, index) => spansOf(window, `${path}windows.${index}`)))
    : [{ from: 0, to: weekMs }];
  const quiet = quietHours ? merged(spansOf(quietHours, `${path}quietHours`)) : [];
  const open = without(opened, quiet);
  if (open.length === 0)
    throw invalid(
      `${path}${windows ? 'windows' : 'quietHours'}`,
      windows
        ? 'are all inside the quiet hours, so that nothing could ever leave. Shorten the quiet hours, or move a window'
        : 'cover the whole day, so that nothing could ever leave. Shorten them',
    );
  const closed = without([{ from: 0, to: weekMs }], open);
  return { open: closed.length === 0 ? null : open, closed, zone, fallback };
}

/**
 * The group of recipients that share their sending times: the ISO 3166 code of the country of a number, such as `ID`, or `US-HI`, `US-AK`
 * or `ZZ`. There are about 240.
 * @param address the digits of a phone number with country code, or a chat id
 */
export function zoneKeyOf(address: string): string {
  return /^\d{5,20}$/.test(address) ? keyOfNumber(address) : unknownZoneKey;
}

/**
 * The first moment at or after `at` at which a message to this group may leave.
 * @returns null if there is none in the next 15 days: no moment is allowed in all zones of the country
 */
export function nextAllowed(zoneKey: string, plan: SendingPlan, at: Date): Date | null {
  if (plan.open === null) return at;
  const zones = zonesFor(zoneKey, plan);
  const end = at.getTime() + horizonMs;
  let time = at.getTime();
  while (time <= end) {
    const next = Math.max(...zones.map((zone) => nextIn(plan.open!, zone, time, end)));
    if (next === time) return new Date(time);
    time = next;
  }
  return null;
}

/**
 * Until when messages to this group may leave without a break, if they may at `at`.
 * @returns `at` itself if they may not then. Null if they may for at least 15 days
 */
export function allowedUntil(zoneKey: string, plan: SendingPlan, at: Date): Date | null {
  if (plan.open === null) return null;
  const time = at.getTime();
  const end = time + horizonMs;
  const next = Math.min(...zonesFor(zoneKey, plan).map((zone) => nextIn(plan.closed, zone, time, end)));
  return next > end ? null : new Date(next);
}

/** What to tell a person whose sending times leave no moment for a country. */
export function neverAllowedHint(zoneKey: string): string {
  const zones = zonesOf(zoneKey).length;
  return `No moment is inside these times in all ${zones} time zones of ${zoneKey}. Use longer windows or shorter quiet hours, or set timeZone to one zone for everybody, for example Europe/Moscow.`;
}

/** The names of the zones of a group: one for each clock that differs from the others. Empty for `ZZ`. */
export function zonesOf(zoneKey: string): readonly string[] {
  return clocksOf(zoneKey).map(({ name }) => name);
}

function invalid(path: string, message: string): ValidationFailed {
  return new ValidationFailed([{ path, message }]);
}

/** Times of day as milliseconds of the week. Both are checked. */
function spansOf({ days: chosen, from, to }: SendingWindow, path: string): Span[] {
  const start = timeOfDay(from, `${path}.from`);
  const end = timeOfDay(to, `${path}.to`);
  if (start === end || start === dayMs)
    throw invalid(
      `${path}.to`,
      'must be another time than from. For the whole day, write from 00:00 to 24:00',
    );
  const length = end > start ? end - start : end - start + dayMs;
  if (chosen && chosen.length === 0)
    throw invalid(`${path}.days`, 'must have a day. Leave it out for every day');
  return (chosen ?? days).flatMap((day) => {
    const begin = days.indexOf(day) * dayMs + start;
    const finish = begin + length;
    return finish <= weekMs
      ? [{ from: begin, to: finish }]
      : [
          { from: begin, to: weekMs },
          { from: 0, to: finish - weekMs },
        ];
  });
}

function timeOfDay(text: string, path: string): number {
  if (!timePattern.test(text))
    throw invalid(path, 'must be a time of the day as HH:MM, for example 09:00 or 21:30');
  const [hours, minutes] = text.split(':').map(Number) as [number, number];
  return (hours * 60 + minutes) * minuteMs;
}

function zoneNamed(name: string, path: string): IANAZone {
  if (!isTimeZone(name))
    throw invalid(path, 'must be recipient, or the IANA name of a time zone, for example Asia/Jakarta');
  return IANAZone.create(name);
}

/** The same times, in order and without overlaps. */
function merged(spans: readonly Span[]): Span[] {
  const result: Span[] = [];
  for (const { from, to } of [...spans].sort((one, other) => one.from - other.from)) {
    const last = result.at(-1);
    if (last && from <= last.to) last.to = Math.max(last.to, to);
    else result.push({ from, to });
  }
  return result;
}

function without(spans: readonly Span[], removed: readonly Span[]): Span[] {
  return removed.reduce<Span[]>(
    (left, { from, to }) =>
      left
        .flatMap((span) => [
          { from: span.from, to: Math.min(span.to, from) },
          { from: Math.max(span.from, to), to: span.to },
        ])
        .filter((span) => span.from < span.to),
    [...spans],
  );
}

/**
 * The first moment from `time` on at which the clock of a zone is in one of the spans. What the clock shows decides: an hour that it skips
 * in spring never comes, and one that it repeats in autumn counts twice.
 * @returns a time after `end` if there is none before
 */
function nextIn(spans: readonly Span[], zone: IANAZone, time: number, end: number): number {
  let now = time;
  while (now <= end) {
    const offset = zone.offset(now);
    const wait = waitFor(spans, (now + offset * minuteMs + mondayOffsetMs) % weekMs);
    if (wait === 0) return now;
    if (wait === Infinity) break;
    if (zone.offset(now + wait) === offset) return now + wait;
    now = changeBetween(zone, now, now + wait);
  }
  return end + 1;
}

/** How long the clock takes from a time of the week to the next span. */
function waitFor(spans: readonly Span[], clock: number): number {
  const inOrAfter = spans.find(({ to }) => clock < to);
  if (inOrAfter) return Math.max(0, inOrAfter.from - clock);
  const [first] = spans;
  return first ? first.from + weekMs - clock : Infinity;
}

/** The first moment with another offset than `before`. Zones do not change twice in a week. */
function changeBetween(zone: IANAZone, before: number, after: number): number {
  const offset = zone.offset(before);
  let [low, high] = [before, after];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (zone.offset(middle) === offset) low = middle;
    else high = middle;
  }
  return high;
}

function zonesFor(zoneKey: string, { zone, fallback }: SendingPlan): readonly IANAZone[] {
  if (zone) return [zone];
  const clocks = clocksOf(zoneKey);
  return clocks.length === 0 ? [fallback] : clocks;
}

/** Countries that `countries-and-timezones` leaves out. */
const addedCountries: Record<string, readonly string[]> = {
  AC: ['Atlantic/St_Helena'],
  TA: ['Atlantic/St_Helena'],
  XK: ['Europe/Belgrade'],
};
const statesApart: Record<string, readonly string[]> = {
  'US-HI': ['Pacific/Honolulu'],
  'US-AK': ['America/Anchorage', 'America/Adak'],
};
const areasApart: Record<string, string> = { 1808: 'US-HI', 1907: 'US-AK' };
/** Alaska and Hawaii have keys of their own. */
const mainland = [
  'America/New_York',
  'America/Chicago',
  'America/Denver',
  'America/Phoenix',
  'America/Los_Angeles',
];

const clocksByKey = new Map<string, readonly IANAZone[]>();

function clocksOf(zoneKey: string): readonly IANAZone[] {
  const known = clocksByKey.get(zoneKey);
  if (known) return known;
  if (!/^[A-Z]{2}(-[A-Z]{2})?$/.test(zoneKey)) return [];
  const names =
    zoneKey === 'US'
      ? mainland
      : (statesApart[zoneKey] ?? addedCountries[zoneKey] ?? getCountry(zoneKey)?.timezones ?? []);
  // A newer list may have zones that this server does not know.
  const clocks = [
    ...new Map(names.filter(isTimeZone).map((name) => [clockOf(name), IANAZone.create(name)])).values(),
  ];
  // A key from elsewhere must not fill the memory.
  if (clocks.length > 0) clocksByKey.set(zoneKey, clocks);
  return clocks;
}

/** The offsets of a zone over a year from the present on: zones with the same ones are one clock. */
function clockOf(name: string): string {
  const zone = IANAZone.create(name);
  const start = Math.floor(Date.now() / dayMs) * dayMs;
  return Array.from({ length: 27 }, (_, step) => zone.offset(start + step * 2 * weekMs)).join();
}

/** The countries of each calling code, the largest first. Satellite phones and the like have no country. */
const countriesOfCode = new Map<string, readonly string[]>(Object.entries(metadata.country_calling_codes));
/** How many digits tell the countries of a code apart: in North America, these are the area code. */
const digitsThatTell: Record<string, number> = { 1: 4, 7: 2 };
const digitsThatTellElsewhere = 7;

/** Whether the countries of a calling code have different clocks. */
const sharedCodes = new Map<string, boolean>();
const keysByPrefix = new LRUCache<string, string>({ max: 50_000 });

function keyOfNumber(digits: string): string {
  const code = [1, 2, 3].map((length) => digits.slice(0, length)).find((start) => countriesOfCode.has(start));
  if (code === undefined) return unknownZoneKey;
  const [main] = countriesOfCode.get(code)!;
  if (!isShared(code)) return clocksOf(main!).length > 0 ? main! : unknownZoneKey;
  const prefix = digits.slice(0, digitsThatTell[code] ?? digitsThatTellElsewhere);
  const known = areasApart[prefix] ?? keysByPrefix.get(prefix);
  if (known !== undefined) return known;
  const isArea = code === '1';
  const country = parsePhoneNumberFromString(`+${isArea ? `${prefix}2345678` : digits}`)?.country;
  // A number that is not valid says nothing about its neighbours.
  if (country !== undefined || isArea) keysByPrefix.set(prefix, country ?? main!);
  return country ?? main!;
}

function isShared(code: string): boolean {
  const known = sharedCodes.get(code);
  if (known !== undefined) return known;
  const countries = countriesOfCode.get(code)!;
  const clocks = new Set(countries.map((country) => zonesOf(country).map(clockOf).sort().join()));
  const shared = countries.length > 1 && clocks.size > 1;
  sharedCodes.set(code, shared);
  return shared;
}
