import type { RecipientRow } from './recipients.service.js';

const ownColumns = ['to', 'status', 'error', 'accountId', 'sentAt', 'deliveredAt', 'readAt', 'failedAt', 'id'];

/**
 * A report as CSV, in UTF-8 with a byte order mark, so that Excel opens it. The variables of the first recipients name the columns
 * behind Flotilla's own.
 */
export async function* reportCsv(parts: AsyncIterable<RecipientRow[]>): AsyncGenerator<string> {
  let names: string[] | undefined;
  for await (const rows of parts) {
    if (!names) {
      names = [...new Set(rows.flatMap(({ variables }) => Object.keys(variables)))];
      yield `\ufeff${csvLine([...ownColumns, ...names])}`;
    }
    const variables = names;
    if (rows.length > 0)
      yield rows
        .map((row) =>
          csvLine([
            row.recipient,
            row.status,
            row.error_message ?? '',
            row.account_id ?? '',
            ...[row.sent_at, row.delivered_at, row.read_at, row.failed_at].map((time) => time?.toISOString() ?? ''),
            row.id,
            ...variables.map((name) => row.variables[name] ?? ''),
          ]),
        )
        .join('');
  }
}

function csvLine(values: readonly string[]): string {
  return `${values.map(quoted).join(',')}\r\n`;
}

/** A value that a spreadsheet would run as a formula gets an apostrophe. */
function quoted(value: string): string {
  const harmless = /^[=@\t\r]|^[+-](?!\d+$)/.test(value) ? `'${value}` : value;
  return /[",;\t\r\n]|^\s|\s$/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}
