import type { Request } from 'express';
import { Problem } from '../platform/errors/problem.js';
import type { ListFormat } from './lists/read-list.js';

const xlsx = 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet';

const formats: Record<string, ListFormat> = {
  'application/json': 'json',
  'application/x-ndjson': 'ndjson',
  'application/ndjson': 'ndjson',
  'application/jsonl': 'ndjson',
  'text/csv': 'csv',
  'text/tab-separated-values': 'csv',
  [xlsx]: 'xlsx',
};

export class ListTypeUnsupported extends Problem {
  constructor(type: string | undefined) {
    const found = type ? `The Content-Type is ${type.slice(0, 100)}` : 'The list has no Content-Type';
    super(
      415,
      'campaign.list_type_unsupported',
      `${found}. Send the list with text/csv, application/x-ndjson, application/json, or ${xlsx}.`,
    );
  }
}

/** The format of an uploaded list. @throws ListTypeUnsupported */
export function formatOf(request: Request): ListFormat {
  const type = request.headers['content-type'];
  const format = formats[(type ?? '').split(';')[0]!.trim().toLowerCase()];
  if (!format) throw new ListTypeUnsupported(type);
  return format;
}
