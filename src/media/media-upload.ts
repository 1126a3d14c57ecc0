import busboy from 'busboy';
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { Problem, ValidationFailed } from '../platform/errors/problem.js';
import { MediaTooLarge, type SpooledFile } from './media-spool.js';
import type { FileDescription } from './media.service.js';

/** What of an upload is not its file: boundaries and headers of parts. */
const formBytes = 16_384;
/** How long the rest of a refused upload is listened to, so that its sender gets to read the answer. */
const drainMs = 5_000;

export class UploadMalformed extends Problem {
  constructor(why: string) {
    super(400, 'media.malformed_upload', `This is no whole multipart/form-data: ${why}.`);
  }
}

export class UploadUnsupported extends Problem {
  constructor() {
    super(415, 'media.unsupported_upload', 'Send the file as multipart/form-data, in the field "file".');
  }
}

/**
 * Reads the one file of a multipart request, as it comes in. Nothing is left of an upload that fails or breaks off.
 * @param receive takes the bytes of the file
 * @param discard removes them again when the rest of the request is not in order
 * @throws UploadUnsupported, UploadMalformed, ValidationFailed, MediaTooLarge, and whatever `receive` fails with
 */
export async function receiveUpload(
  request: IncomingMessage,
  maxBytes: number,
  receive: (file: Readable) => Promise<SpooledFile>,
  discard: (file: SpooledFile) => Promise<void>,
): Promise<{ file: SpooledFile; described: FileDescription }> {
  try {
    if (!/^multipart\/form-data\b/i.test(request.headers['content-type'] ?? ''))
      throw new UploadUnsupported();
    if (Number(request.headers['content-length']) > maxBytes + formBytes) throw new MediaTooLarge(maxBytes);
    return await read(request, receive, discard);
  } catch (error) {
    drain(request);
    throw error;
  }
}

async function read(
  request: IncomingMessage,
  receive: (file: Readable) => Promise<SpooledFile>,
  discard: (file: SpooledFile) => Promise<void>,
): Promise<{ file: SpooledFile; described: FileDescription }> {
  const form = openForm(request);
  let receiving: Promise<SpooledFile> | undefined;
  let described: FileDescription = { mimetype: null, filename: null };
  form.on('file', (field, file, { mimeType, filename }) => {
    if (field !== 'file' || receiving) {
      file.on('error', () => undefined).resume();
      form.destroy(wrongField(field, 'must be sent once'));
      return;
    }
    described = { mimetype: mimeType, filename };
    receiving = receive(file);
    // The rest of the form is of no interest then.
    receiving.catch((error: Error) => form.destroy(error));
  });
  form.on('field', (field) => form.destroy(wrongField(field, 'must be a file: its part needs a filename')));
  const parsed = new Promise<void>((resolve, reject) => {
    form.once('close', resolve).on('error', reject);
    request.once('close', () => {
      if (!request.complete) form.destroy(new UploadMalformed('the connection ended before the file did'));
    });
  });
  request.pipe(form);
  try {
    await parsed;
    if (!receiving) throw new ValidationFailed([{ path: 'file', message: 'is missing' }]);
    return { file: await receiving, described };
  } catch (error) {
    // Its own failure is the one that is reported: it has ended the form.
    const file = await receiving?.catch(() => undefined);
    if (file) await discard(file);
    throw error instanceof Problem ? error : new UploadMalformed(reasonOf(error as Error));
  }
}

function openForm(request: IncomingMessage): busboy.Busboy {
  try {
    return busboy({
      headers: request.headers,
      defParamCharset: 'utf8',
      limits: { parts: 8, fields: 4, fieldNameSize: 100, fieldSize: 1_024, headerPairs: 20 },
    });
  } catch (error) {
    throw new UploadMalformed(reasonOf(error as Error));
  }
}

/** @param ofFile what is wrong when it is the field of the file itself */
function wrongField(field: string, ofFile: string): ValidationFailed {
  const message = field === 'file' ? ofFile : 'unknown field; there is only "file"';
  return new ValidationFailed([{ path: String(field).slice(0, 100), message }]);
}

function reasonOf({ message }: Error): string {
  return message.charAt(0).toLowerCase() + message.slice(1);
}

/** Reads what still comes and throws it away: a connection that is closed on a sender who is still sending shows them no answer. */
function drain(request: IncomingMessage): void {
  request.unpipe();
  request.resume();
  if (request.complete || request.destroyed) return;
  const timer = setTimeout(() => request.destroy(), drainMs);
  request.once('close', () => clearTimeout(timer));
}
