import { Problem } from '../../platform/errors/problem.js';

/** The list cannot be read at all. */
export class ListUnreadable extends Problem {
  /** @param detail what is wrong, and the cure */
  constructor(detail: string) {
    super(422, 'campaign.list_unreadable', detail);
  }
}

/** The list has no recipients. */
export class ListEmpty extends Problem {
  constructor(detail: string) {
    super(422, 'campaign.list_empty', detail);
  }
}

/** The first line holds a number. It must hold the names of the columns. */
export class ListWithoutHeader extends Problem {
  constructor(line: number) {
    super(
      422,
      'campaign.list_without_header',
      `Line ${line} is the first line of the list, and it holds a phone number. Insert a line above it with the names of the columns, for example: to,name,city.`,
    );
  }
}

/** No column, or more than one column, seems to hold the phone numbers. */
export class ListNumberColumnUnclear extends Problem {
  constructor(header: readonly string[], candidates: readonly string[]) {
    const problem =
      candidates.length > 0
        ? `More than one column seems to hold the phone numbers: ${quoted(candidates)}.`
        : `No column seems to hold the phone numbers. The columns are ${quoted(header)}.`;
    super(
      422,
      'campaign.list_number_column',
      `${problem} Rename the column of the numbers to "to", or name it in the mapping of the columns as "to".`,
    );
  }
}

/** Two columns give the same variable. */
export class ListColumnTwice extends Problem {
  constructor(name: string) {
    super(
      422,
      'campaign.list_column_twice',
      `Two columns have the name ${quoted([name])}. Upper and lower case make no difference. Rename one of the columns.`,
    );
  }
}

/** The mapping of the columns names a column that the list does not have. */
export class ListColumnUnknown extends Problem {
  constructor(name: string, header: readonly string[]) {
    super(
      422,
      'campaign.list_column_unknown',
      `The mapping of the columns names the column ${quoted([name])}, and the list does not have it. The columns are ${quoted(header)}. Correct the mapping.`,
    );
  }
}

/** The list passes a limit, so that the rest of it cannot be read. */
export class ListTooLarge extends Problem {
  /** @param detail which limit, and the cure */
  constructor(detail: string) {
    super(422, 'campaign.list_too_large', detail);
  }
}

const maxListed = 20;
const maxShown = 60;

/** Names from a file, as an error shows them. */
function quoted(names: readonly string[]): string {
  const listed = names.filter((name) => name !== '').slice(0, maxListed);
  const more = names.length > maxListed ? ', …' : '';
  return listed.map((name) => JSON.stringify(shortened(name))).join(', ') + more || 'empty';
}

/** A text of a file, as an error shows it. */
export function shortened(text: string, length = maxShown): string {
  return text.length > length ? `${text.slice(0, length)}…` : text;
}
