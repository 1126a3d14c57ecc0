import type { CountryCode } from 'libphonenumber-js/max';
import { storable } from '../../messages/storable-text.js';
import { type ColumnMapping, numberColumns, numberKey, variableName } from './list-columns.js';
import { shortened } from './list-errors.js';
import { listLimits } from './list-limits.js';
import { invalidLine, type ListRow, noVariables, valueProblem } from './list-rows.js';
import { listedPerson } from './listed-person.js';

/** Reads the recipients of a list of JSON objects: `{ "to": …, "variables": { … } }` or `{ "to": …, "name": … }`. */
export class JsonRows {
  /** The number, and the variables of all objects so far. */
  readonly header = [numberKey];
  private readonly positions = new Map<string, number>();
  private readonly byFile: Map<string, string>;

  constructor(
    private readonly mapping: ColumnMapping,
    private readonly country: CountryCode | null,
  ) {
    this.byFile = new Map(
      Object.entries(mapping).map(([wanted, inFile]) => [variableName(inFile), variableName(wanted)]),
    );
  }

  /** @param line where the object is in the list */
  row(line: number, object: unknown): ListRow {
    if (typeof object !== 'object' || object === null || Array.isArray(object))
      return this.unreadable(
        line,
        JSON.stringify(object) ?? '',
        'is not a JSON object: write {"to": "+6281234567890", "variables": {"name": "Ana"}}',
      );
    const { variables: inner, ...outer } = object as Record<string, unknown>;
    if (inner !== undefined && inner !== null && (typeof inner !== 'object' || Array.isArray(inner)))
      return this.invalid(line, object, 'variables', inner, 'must be a JSON object: write {"name": "Ana"}');
    const names = Object.keys(outer);
    const [number, ...others] = numberColumns(names, this.mapping);
    if (number === undefined)
      return this.invalid(line, object, numberKey, undefined, 'is missing: add the phone number as "to"');
    const key = names[number]!;
    if (others.length > 0) {
      const reason = 'is not the only member that may be the phone number: give the number the name "to"';
      return this.invalid(line, object, key, outer[key], reason);
    }
    const to = textOf(outer[key]);
    const person = to.reason ?? listedPerson(to.text, this.country);
    if (typeof person === 'string') return this.invalid(line, object, key, outer[key], person);
    delete outer[key];
    return this.recipient(line, object, to.text, person, { ...outer, ...inner });
  }

  /** A line that holds no object. */
  unreadable(line: number, text: string, reason: string): ListRow {
    return invalidLine(line, null, text, reason, [text]);
  }

  private recipient(
    line: number,
    object: object,
    number: string,
    { to, person }: { to: string; person: string },
    all: Record<string, unknown>,
  ): ListRow {
    const entries = Object.entries(all);
    if (entries.length > listLimits.variables) {
      const reason = `has ${entries.length} variables, and a recipient may have at most ${listLimits.variables}: leave out what the message does not need`;
      return this.invalid(line, object, null, '', reason);
    }
    const variables = noVariables();
    const values = [number];
    for (const [key, value] of entries) {
      const written = variableName(key);
      const name = this.byFile.get(written) ?? written;
      const { text, reason } = textOf(value);
      const position = this.position(key);
      const problem =
        name === '' || key.length > listLimits.nameLength
          ? `has a name of ${key.length} characters, and a name has 1 to ${listLimits.nameLength}: rename the variable`
          : position === null
            ? `is one name too many, because a list may have at most ${listLimits.columns - 1} different variables: use the same names in all lines`
            : (reason ?? valueProblem(text) ?? (name in variables ? 'is there twice: leave one out' : null));
      if (problem !== null) return this.invalid(line, object, key, value, problem);
      while (values.length < position!) values.push('');
      values[position!] = text;
      if (text !== '') variables[name] = text;
    }
    return { isValid: true, line, to, person, variables, values };
  }

  private invalid(
    line: number,
    object: object,
    column: string | null,
    value: unknown,
    reason: string,
  ): ListRow {
    const { variables: inner, ...outer } = object as Record<string, unknown>;
    const all = {
      ...outer,
      ...(typeof inner === 'object' && !Array.isArray(inner) ? inner : { variables: inner }),
    };
    const names = Object.keys(outer);
    const [number] = numberColumns(names, this.mapping);
    const values: string[] = [''];
    for (const [key, each] of Object.entries(all)) {
      const position = key === names[number ?? -1] ? 0 : this.position(key);
      if (position === null || each === undefined || each === null) continue;
      while (values.length < position) values.push('');
      values[position] = shownText(each);
    }
    const shown = column === null ? null : shortened(column, listLimits.nameLength);
    return invalidLine(line, shown, shownText(value), reason, values);
  }

  /** The column of a variable. Null if the list has too many. */
  private position(name: string): number | null {
    const key = variableName(name);
    const known = this.positions.get(key);
    if (known !== undefined) return known;
    if (this.header.length >= listLimits.columns || key === '' || name.length > listLimits.nameLength)
      return null;
    this.positions.set(key, this.header.length);
    return this.header.push(storable(name.trim())) - 1;
  }
}

/** A value of JSON as text. Null and an empty text mean that there is no value. */
function textOf(value: unknown): { text: string; reason: string | null } {
  switch (typeof value) {
    case 'string':
      return { text: storable(value).trim(), reason: null };
    case 'boolean':
      return { text: String(value), reason: null };
    case 'number': {
      const isRounded = Number.isInteger(value) && !Number.isSafeInteger(value);
      const reason = 'is a number with too many digits for JSON: write it as a string, in quotes';
      return { text: String(value), reason: isRounded || !Number.isFinite(value) ? reason : null };
    }
    default:
      return {
        text: '',
        reason:
          value == null ? null : 'must be a string, a number, true, false or null, not a list or an object',
      };
  }
}

function shownText(value: unknown): string {
  if (typeof value === 'string') return value;
  return value == null ? '' : JSON.stringify(value);
}
