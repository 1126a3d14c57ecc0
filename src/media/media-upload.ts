import busboy from 'busboy';
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { Problem, ValidationFailed } from '../platform/errors/problem.js';
import { MediaTooLarge, type SpooledFile } from './media-spool.js';
import type { FileDescription } from './media.service.js';

/** Limit of the bytes around the file: boundaries and headers of parts. */
const maxFormBytes = 16_384;
/** How long the rest of a refused upload is read, so that its sender gets the answer. */
const drainMs = 5_000;

export class UploadMalformed extends Problem {
  constructor(why: string) {
    super(
      400,
      'media.malformed_upload',
      `The multipart/form-data is incomplete or malformed: ${why}. Let an HTTP library build the form.`,
    );
  }
}

export class UploadUnsupported extends Problem {
  constructor() {
    super(415, 'media.unsupported_upload', 'Send the file as multipart/form-data, in the field "file".');
  }
}

/**
 * Streams the single file of a multipart request. After an upload that fails or is interrupted, nothing is left.
 * @param receive stores the bytes of the file
 * @param discard removes the stored bytes if the rest of the request is invalid
 * @throws UploadUnsupported, UploadMalformed, ValidationFailed, MediaTooLarge, and the errors of `receive`
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
    if (Number(request.headers['content-length']) > maxBytes + maxFormBytes)
      throw new MediaTooLarge(maxBytes);
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
    // After this error the rest of the form is not read.
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
    // `error` is the error of `receive` if that failed first, because it destroys the form.
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

/** @param ofFile the message if the field is `file` */
function wrongField(field: string, ofFile: string): ValidationFailed {
  const message = field === 'file' ? ofFile : 'is an unknown field; the only field is "file"';
  return new ValidationFailed([{ path: String(field).slice(0, 100), message }]);
}

function reasonOf({ message }: Error): string {
  return message.charAt(0).toLowerCase() + message.slice(1);
}

/** Reads the rest and throws it away: if the connection closes while the sender still sends, the sender does not get the answer. */
function drain(request: IncomingMessage): void {
  request.unpipe();
  request.resume();
  if (request.complete || request.destroyed) return;
  const timer = setTimeout(() => request.destroy(), drainMs);
  request.once('close', () => clearTimeout(timer));
}
