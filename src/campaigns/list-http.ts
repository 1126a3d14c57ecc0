import type { Response } from 'express';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { withoutTurn } from '../platform/http/fair-share.js';
import { ListTypeUnsupported } from './list-upload.js';
import {
  ListColumnTwice,
  ListColumnUnknown,
  ListEmpty,
  ListNumberColumnUnclear,
  ListTooLarge,
  ListUnreadable,
  ListWithoutHeader,
} from './lists/list-errors.js';

/** The problems of a list in a request. */
export const listProblems = [
  ListTypeUnsupported,
  ListColumnTwice,
  ListColumnUnknown,
  new ListEmpty('The list is empty. Send a header, for example to,name, and one line for each recipient.'),
  ListNumberColumnUnclear,
  new ListTooLarge('The list has 300 columns, and a list may have at most 256. Delete columns.'),
  new ListUnreadable('The list is not JSON. Send {"recipients": [{"to": "+6281234567890"}]}.'),
  ListWithoutHeader,
];

/** The types of a list in a request. */
export const listTypes = [
  'application/json',
  'application/x-ndjson',
  'text/csv',
  'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet',
];

export async function sendCsv(response: Response, name: string, parts: AsyncIterable<string>): Promise<void> {
  response.attachment(`${name}.csv`);
  response.setHeader('Content-Type', 'text/csv; charset=utf-8');
  await withoutTurn(() => pipeline(Readable.from(parts), response));
}
