import { LRUCache } from 'lru-cache';
import { storable } from '../messages/storable-text.js';

/* The texts of a campaign: variables, and choices between wordings ("spin"). A template is parsed once and rendered for each recipient. */

/**
 * A template that cannot be used. The text names the line, the column and the cure. Both count from 1, in characters.
 */
export class TemplateError extends Error {
  constructor(
    readonly line: number,
    readonly column: number,
    problem: string,
  ) {
    super(`line ${line}, column ${column}: ${problem}`);
    this.name = 'TemplateError';
  }
}

interface Variable {
  /** As {@link variableKey} makes it. */
  key: string;
  /** As the template writes it first. */
  name: string;
  /** The text in place of a missing value. Null: a recipient without a value is invalid. */
  fallback: string | null;
}

interface Choice {
  /** The number of the choice in its template, from 0. */
  index: number;
  options: Part[][];
}

type Part = string | Variable | Choice;

/** A parsed template. It does not change, so that many recipients share it. */
export interface Template {
  readonly parts: readonly Part[];
  readonly variables: readonly TemplateVariable[];
  /** How many different texts the choices allow, without the values of variables. 1: no choices. At most 2^53 - 1. */
  readonly variants: number;
  /** The shortest text that the template can become, in UTF-16 code units. */
  readonly minLength: number;
}

export interface TemplateVariable {
  /** As {@link variableKey} makes it: under it, the values of recipients are kept. */
  key: string;
  /** As the template writes it first. */
  name: string;
  /** Whether every use of the variable has a fallback. Without it, a recipient who lacks the variable is invalid. */
  hasFallback: boolean;
}

/** What a template is rendered for. */
export interface TemplateRecipient {
  /** The recipient's number, for `{{to}}`. */
  to: string;
  /** By their {@link variableKey}, as {@link toVariables} makes them. */
  variables: Readonly<Record<string, string>>;
  /** Decides the choices: the same seed always gets the same text. */
  seed: string;
}

export type Rendered = { text: string; missing: null } | { text: null; missing: string[] };

/** The longest template: choices may be longer than the text that they become. In UTF-16 code units. */
export const maxTemplateLength = 131_072;
export const maxVariableNameLength = 64;
/** The longest value of a variable, in UTF-16 code units. */
export const maxValueLength = 4_096;
export const maxVariables = 200;
const maxDepth = 5;
const maxOptions = 50;
const maxChoices = 200;

const nameOfVariable = /^[\p{L}\p{M}\p{N}_.\- ]*[\p{L}\p{N}][\p{L}\p{M}\p{N}_.\- ]*$/u;

/** Each row of a list has the same names. */
const keys = new LRUCache<string, string>({ max: 1_000 });

/** The name of a variable as it is compared: `First  Name` and ` first name ` are the same variable. */
export function variableKey(name: string): string {
  const known = keys.get(name);
  if (known !== undefined) return known;
  const key = storable(name)
    .normalize('NFKC')
    .replace(/\p{Cf}/gu, '')
    .replace(/\s+/gu, ' ')
    .trim()
    .toLowerCase();
  if (name.length <= maxVariableNameLength) keys.set(name, key);
  return key;
}

/** What is wrong with the name of a variable, and the cure. Null if it can be used in a template. */
export function problemOfName(name: string): string | null {
  const key = variableKey(name);
  if (key === '') return 'the name of the variable is missing: write for example {{name}}';
  if (key.length > maxVariableNameLength)
    return `the name of a variable has at most ${maxVariableNameLength} characters`;
  if (!nameOfVariable.test(key))
    return `"${shortened(key)}" is not the name of a variable: use only letters, digits, spaces, "_", "-" and "."`;
  return null;
}

/**
 * The variables of a recipient, as templates look them up and a row can keep them. Numbers and booleans become texts. What is null, empty
 * or only white space is left out, so that a variable is missing if its key is. Names that are empty or too long for a template are left out.
 * @throws RangeError if two names are the same variable, or a value is no text, or there are too many: its text has the cure
 */
export function toVariables(given: Readonly<Record<string, unknown>>): Record<string, string> {
  const names = Object.keys(given);
  if (names.length > maxVariables)
    throw new RangeError(
      `A recipient has at most ${maxVariables} variables, and this one has ${names.length}.`,
    );
  // Without a prototype: a variable may be called `constructor`.
  const variables = Object.create(null) as Record<string, string>;
  for (const name of names) {
    const key = variableKey(name);
    const value = given[name];
    if (value === null || value === undefined || key === '' || key.length > maxVariableNameLength) continue;
    if (typeof value === 'object' || typeof value === 'function' || typeof value === 'symbol')
      throw new RangeError(`The variable "${shortened(name)}" must be a text or a number.`);
    // A primitive: what has a text of its own was refused above.
    const text = storable(String(value as string | number | boolean | bigint)).trim();
    if (isBlank(text)) continue;
    if (key in variables)
      throw new RangeError(
        `The variable "${shortened(name)}" is there twice: capital letters and spaces do not count. Rename one of the two.`,
      );
    if (text.length > maxValueLength)
      throw new RangeError(
        `The value of the variable "${shortened(name)}" has ${text.length} characters. At most ${maxValueLength} are possible.`,
      );
    variables[key] = text;
  }
  return variables;
}

/**
 * Parses the text of a campaign.
 *
 * - `{{name}}` is the value of a variable. `{{name|there}}` is `there` for a recipient who lacks it, and `{{name|}}` is nothing.
 * - With `spin`, `{Hello|Hi|{Good|Nice} day}` is one of these wordings.
 * - A backslash makes the next `{` or `}` (with `spin` also `|`) an ordinary character: `\{\{` is two braces. In front of them, `\\` is one
 *   backslash. Everywhere else, a backslash is a backslash.
 * @throws TemplateError
 */
export function parseTemplate(text: string, { spin = false }: { spin?: boolean } = {}): Template {
  return new Parser(text, spin).parse();
}

/** The variables of a template, each once, in the order of the text. `to` is not listed: every recipient has it. */
export function variablesOf({ variables }: Template): readonly TemplateVariable[] {
  return variables;
}

/** Everything in a template that is no value of a variable: the ordinary texts, and those of all choices. */
export function literalsOf({ parts }: Pick<Template, 'parts'>): string[] {
  return parts.flatMap((part) => {
    if (typeof part === 'string') return [part];
    return 'options' in part ? part.options.flatMap((option) => literalsOf({ parts: option })) : [];
  });
}

/** The text for one recipient, or the variables that it needs and the recipient lacks. A value of white space only is missing. */
export function render({ parts }: Template, recipient: TemplateRecipient): Rendered {
  const run: Run = { recipient, hash: null, missing: null };
  const text = renderParts(parts, run);
  return run.missing === null ? { text, missing: null } : { text: null, missing: run.missing };
}

/**
 * Which of several variants a recipient gets. In the long run, each gets exactly its share.
 * @param shares the weight of each variant, for example percents. They need no certain sum
 * @returns the index of the variant
 * @throws RangeError if a share is negative, or all are 0
 */
export function variantOf(seed: string, shares: readonly number[]): number {
  let sum = 0;
  for (const share of shares) {
    if (!(share >= 0)) throw new RangeError(`A share must be 0 or more, and ${share} is not.`);
    sum += share;
  }
  if (!(sum > 0 && sum < Infinity))
    throw new RangeError('The shares need a sum above 0: give at least one variant a share.');
  // The choices mix this number once more: recipients of a variant get all wordings.
  let point = (hashOf(seed) / 2 ** 32) * sum;
  let last = 0;
  for (let index = 0; index < shares.length; index += 1) {
    if (shares[index] === 0) continue;
    if (point < shares[index]!) return index;
    point -= shares[index]!;
    last = index;
  }
  return last;
}

interface Run {
  recipient: TemplateRecipient;
  /** Of the seed. Null until the first choice. */
  hash: number | null;
  missing: string[] | null;
}

function renderParts(parts: readonly Part[], run: Run): string {
  let text = '';
  for (const part of parts) {
    if (typeof part === 'string') text += part;
    else if ('options' in part) text += renderParts(chosen(part, run), run);
    else text += valueOf(part, run);
  }
  return text;
}

function chosen({ index, options }: Choice, run: Run): Part[] {
  run.hash ??= hashOf(run.recipient.seed);
  const number = mix(run.hash ^ Math.imul(index + 1, 0x9e3779b9)) / 2 ** 32;
  return options[Math.floor(number * options.length)]!;
}

function valueOf({ key, name, fallback }: Variable, run: Run): string {
  const { to, variables } = run.recipient;
  const given = key === 'to' ? to : Object.hasOwn(variables, key) ? variables[key] : undefined;
  const value = given === undefined ? '' : given.trim();
  if (!isBlank(value)) return value;
  if (fallback !== null) return fallback;
  run.missing ??= [];
  if (!run.missing.includes(name)) run.missing.push(name);
  return '';
}

/** Of a trimmed text. `trim` leaves what is invisible, such as a zero-width space. */
function isBlank(text: string): boolean {
  return text === '' || (text.charCodeAt(0) > 0x7f && /^[\s\p{Cf}]*$/u.test(text));
}

/** FNV-1a with a last mix: neighbouring ids get unrelated numbers. From 0 to 2^32 - 1. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return mix(hash);
}

/** The last step of MurmurHash3: every bit changes half of the others. */
function mix(value: number): number {
  let mixed = value;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

function shortened(text: string): string {
  return text.length > 40 ? `${text.slice(0, 40)}…`.toWellFormed() : text;
}

class Parser {
  private at = 0;
  private choices = 0;
  private readonly found = new Map<string, TemplateVariable>();

  constructor(
    private readonly text: string,
    private readonly spin: boolean,
  ) {}

  parse(): Template {
    if (this.text.length > maxTemplateLength)
      throw this.error(
        `the template has ${this.text.length} characters, and at most ${maxTemplateLength} are possible: shorten it`,
        maxTemplateLength,
      );
    const parts = this.sequence(0);
    return {
      parts,
      variables: [...this.found.values()],
      variants: Math.min(Number.MAX_SAFE_INTEGER, variantsOf(parts)),
      minLength: minLengthOf(parts),
    };
  }

  /** Until the end of the text, or of the option that it is in. */
  private sequence(depth: number): Part[] {
    const parts: Part[] = [];
    let literal = '';
    const push = (part: Variable | Choice) => {
      if (literal !== '') parts.push(literal);
      literal = '';
      parts.push(part);
    };
    while (this.at < this.text.length) {
      const char = this.text[this.at]!;
      if (char === '\\') literal += this.backslashes();
      else if (char === '{' && this.isVariable()) push(this.variable());
      else if (char === '{' && this.spin) push(this.choice(depth + 1));
      else if (depth > 0 && (char === '}' || char === '|')) break;
      else if (char === '}' && this.spin)
        throw this.error('the } has no { before it: write \\} for the character itself');
      else if (this.text.startsWith('{{{{', this.at))
        throw this.error(
          '{{{{ has more braces than a variable: write {{name}}, or \\{ for an ordinary brace',
        );
      else if (this.text.startsWith('}}', this.at))
        throw this.error('the }} has no {{ before it: write {{name}}, or \\}\\} for the two characters');
      else {
        const end = nextSpecial(this.text, this.at + 1);
        literal += this.text.slice(this.at, end);
        this.at = end;
      }
    }
    if (literal !== '') parts.push(literal);
    return parts;
  }

  private isEscapable(char: string | undefined): boolean {
    return char === '{' || char === '}' || (char === '|' && this.spin);
  }

  /** What a run of backslashes means, with the character that the last one makes ordinary. */
  private backslashes(): string {
    const start = this.at;
    while (this.text[this.at] === '\\') this.at += 1;
    const count = this.at - start;
    const next = this.text[this.at];
    if (!this.isEscapable(next)) return this.text.slice(start, this.at);
    const kept = '\\'.repeat(Math.floor(count / 2));
    if (count % 2 === 0) return kept;
    this.at += 1;
    return kept + next;
  }

  /** Whether a variable begins here. Of three braces, the first is not part of it. */
  private isVariable(): boolean {
    if (!this.text.startsWith('{{', this.at) || this.text[this.at + 2] === '{') return false;
    if (!this.spin) return true;
    // `{{a|b}|c}` is a choice in a choice, and `{{a|b}}` is a variable.
    const end = this.endOfVariable();
    return end === null || this.text.startsWith('}}', end);
  }

  /** Where the first brace after `{{` is that no backslash precedes. */
  private endOfVariable(): number | null {
    for (let at = this.at + 2; at < this.text.length; at += 1) {
      const char = this.text[at];
      if (char === '\\') at += 1;
      else if (char === '{' || char === '}') return at;
    }
    return null;
  }

  private variable(): Variable {
    const end = this.endOfVariable();
    if (end === null || !this.text.startsWith('}}', end))
      throw this.error(
        'the {{ is not closed: write {{name}} or {{name|fallback}}, or \\{\\{ for the two characters',
      );
    const [name = '', fallback, ...more] = splitAtBars(this.text.slice(this.at + 2, end));
    const problem = problemOfName(name);
    if (problem !== null) throw this.error(problem);
    if (more.length > 0)
      throw this.error(
        `{{${shortened(variableKey(name))}|…}} has more than one fallback: leave one, or write \\| for the character itself`,
      );
    const key = variableKey(name);
    this.at = end + 2;
    return {
      key,
      name: this.remember(key, name.trim(), fallback !== undefined),
      fallback: fallback?.trim() ?? null,
    };
  }

  /** @returns the name as the template writes it first */
  private remember(key: string, name: string, hasFallback: boolean): string {
    if (key === 'to') return name;
    const known = this.found.get(key);
    if (!known && this.found.size >= maxVariables)
      throw this.error(`a template has at most ${maxVariables} variables: shorten it`);
    const variable = known ?? { key, name, hasFallback };
    variable.hasFallback &&= hasFallback;
    this.found.set(key, variable);
    return variable.name;
  }

  private choice(depth: number): Choice {
    const start = this.at;
    if (depth > maxDepth)
      throw this.error(`choices are at most ${maxDepth} deep in each other: take this one out of the others`);
    const index = this.choices;
    this.choices += 1;
    if (this.choices > maxChoices) throw this.error(`a text has at most ${maxChoices} choices: shorten it`);
    const options: Part[][] = [];
    do {
      this.at += 1;
      options.push(this.sequence(depth));
      if (options.length > maxOptions)
        throw this.error(`a choice has at most ${maxOptions} options: shorten it`, start);
    } while (this.text[this.at] === '|');
    if (this.at >= this.text.length)
      throw this.error(
        'the { is not closed: write {one|two}, {{name}} for a variable, or \\{ for the character itself',
        start,
      );
    if (options.length === 1)
      throw this.error(
        'a choice needs two options: write {one|two}, {{name}} for a variable, or \\{ for the character itself',
        start,
      );
    this.at += 1;
    return { index, options };
  }

  private error(problem: string, at = this.at): TemplateError {
    const before = this.text.slice(0, at);
    const lines = before.split(/\r\n|\r|\n/);
    return new TemplateError(lines.length, [...lines.at(-1)!].length + 1, problem);
  }
}

const special = /[\\{}|]/g;

function nextSpecial(text: string, from: number): number {
  special.lastIndex = from;
  return special.exec(text)?.index ?? text.length;
}

/** The parts of `name|fallback`, without the backslashes of escapes. */
function splitAtBars(text: string): string[] {
  const parts = [''];
  for (const [token, slashes = '', char = ''] of text.matchAll(/(\\*)([{}|])|\\+|[^\\{}|]+/g)) {
    const isEscaped = slashes.length % 2 === 1;
    if (char === '') parts[parts.length - 1] += token;
    else parts[parts.length - 1] += '\\'.repeat(Math.floor(slashes.length / 2)) + (isEscaped ? char : '');
    if (char === '|' && !isEscaped) parts.push('');
  }
  return parts;
}

function variantsOf(parts: readonly Part[]): number {
  return parts.reduce<number>(
    (product, part) =>
      typeof part === 'object' && 'options' in part
        ? product * part.options.reduce((sum, option) => sum + variantsOf(option), 0)
        : product,
    1,
  );
}

function minLengthOf(parts: readonly Part[]): number {
  return parts.reduce<number>((sum, part) => {
    if (typeof part === 'string') return sum + part.length;
    return 'options' in part ? sum + Math.min(...part.options.map(minLengthOf)) : sum;
  }, 0);
}
