import type { RecipientRow } from './recipients.service.js';
import { csvLine, harmless } from './lists/csv-text.js';
import { variableKey } from './template.js';

const ownColumns = [
  'to',
  'status',
  'error',
  'accountId',
  'sentAt',
  'deliveredAt',
  'readAt',
  'repliedAt',
  'failedAt',
  'id',
];

/**
 * A report as CSV, in UTF-8 with a byte order mark, so that Excel opens it. Behind Flotilla's own columns it has those of the list.
 * @param header of the list; the variables of the first recipients complete it
 */
export async function* reportCsv(
  header: readonly string[],
  parts: AsyncIterable<RecipientRow[]>,
): AsyncGenerator<string> {
  let names: string[] | undefined;
  for await (const rows of parts) {
    if (!names) {
      const found = new Set(rows.flatMap(({ variables }) => Object.keys(variables)));
      const listed = header.map(variableKey).filter((name) => found.has(name));
      names = [...new Set([...listed, ...found])];
      yield `\ufeff${csvLine([...ownColumns, ...names].map(harmless))}`;
    }
    const variables = names;
    if (rows.length > 0)
      yield rows
        .map((row) =>
          csvLine(
            [
              row.recipient,
              row.status,
              row.error_message ?? '',
              row.account_id ?? '',
              ...[row.sent_at, row.delivered_at, row.read_at, row.replied_at, row.failed_at].map(
                (time) => time?.toISOString() ?? '',
              ),
              row.id,
              ...variables.map((name) => row.variables[name] ?? ''),
            ].map(harmless),
          ),
        )
        .join('');
  }
}
