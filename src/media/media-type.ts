import { fileTypeFromFile } from 'file-type';
import { open } from 'node:fs/promises';
import { Problem } from '../platform/errors/problem.js';

export type MediaKind = 'image' | 'video' | 'audio' | 'document';

export class MediaTypeMismatch extends Problem {
  constructor(detail: string) {
    super(422, 'media.type_mismatch', detail);
  }
}

export class MediaTypeRefused extends Problem {
  constructor(what: string) {
    super(
      422,
      'media.type_refused',
      `Flotilla does not send programs, and this is ${what}. Send a link to it, or an archive with a password.`,
    );
  }
}

/** Files that a recipient's computer would run: by the type of their bytes, and by their name. */
const programTypes = new Set([
  'application/x-msdownload',
  'application/x-elf',
  'application/x-mach-binary',
  'application/x.ms.shortcut',
  'application/vnd.android.package-archive',
  'application/java-archive',
  'application/x-apple-diskimage',
  'application/x-deb',
  'application/x-rpm',
]);
const programNames =
  /\.(exe|dll|com|scr|pif|msi|msp|cpl|bat|cmd|ps1|psm1|vbs|vbe|jse?|wsf|wsh|hta|jar|lnk|reg|sh|app|command|apk|xapk|aab|dmg|pkg|deb|rpm|msix|msixbundle|appx|appxbundle)$/i;

/** Containers whose bytes do not tell their content: for these the declared type counts, within the kind of the container. */
const containers = new Set([
  'video/mp4',
  'audio/mp4',
  'audio/x-m4a',
  'video/webm',
  'video/3gpp',
  'video/3gpp2',
  'video/ogg',
  'audio/ogg',
  'application/ogg',
  'video/x-ms-asf',
  'application/zip',
  'application/x-cfb',
  'application/xml',
]);
/** Types whose bytes begin as text, with a signature of their own. */
const textualTypes = /^(text\/|application\/(xml|pdf|rtf|postscript|json))/;
/** How much of a file is read to tell text from binary data. */
const headBytes = 65_536;

/**
 * The type of a file, by its bytes. The declared type counts only if the bytes do not tell, among documents.
 * @param declared the type that the sender declares; null without one
 */
export async function mediaTypeOf(path: string, declared: string | null): Promise<string> {
  const claimed = readType(declared);
  const { sniffed, isText } = await sniff(path, claimed?.startsWith('text/') ?? false);
  if (sniffed === null)
    return documentType(claimed !== null && kindOf(claimed) === 'document' ? claimed : null, isText);
  return claimed !== null && containers.has(essence(sniffed)) && isWithin(claimed, sniffed)
    ? claimed
    : sniffed;
}

/** @throws MediaTypeMismatch if the declared type is of another kind. Within a kind, between pictures for example, the bytes decide. */
export function assertAsDeclared(mimetype: string, declared: string | null): void {
  const claimed = readType(declared);
  if (claimed === null || kindOf(claimed) === kindOf(mimetype)) return;
  throw new MediaTypeMismatch(
    `The file is declared as ${claimed}, but its bytes are ${mimetype}. Declare the type of the bytes, or leave the type out.`,
  );
}

/** @throws MediaTypeRefused */
export function assertNoProgram(mimetype: string, filename: string | null): void {
  if (programTypes.has(essence(mimetype))) throw new MediaTypeRefused(mimetype);
  if (filename !== null && programNames.test(filename)) throw new MediaTypeRefused(filename);
}

export function kindOf(mimetype: string): MediaKind {
  const kind = mimetype.slice(0, mimetype.indexOf('/'));
  // An SVG can hold scripts, and no client of WhatsApp shows it as an image.
  if (mimetype.startsWith('image/svg')) return 'document';
  return kind === 'image' || kind === 'video' || kind === 'audio' ? kind : 'document';
}

/**
 * Whether the name of a file may say more than its bytes: they do not tell what kind of text a text is, and not what is in a
 * container.
 * @param named the type of the name's extension
 */
export function mayBe(named: string, mimetype: string): boolean {
  if (/^(text\/|application\/(json|xml)$)/.test(mimetype)) return kindOf(named) === 'document';
  const isSound = kindOf(named) === 'audio' || kindOf(named) === 'video';
  return containers.has(mimetype) && isWithin(named, mimetype) && (!isSound || containers.has(named));
}

/** @param isDeclaredText whether its sender declares a text: then it may have any charset, not only UTF-8 */
async function sniff(
  path: string,
  isDeclaredText: boolean,
): Promise<{ sniffed: string | null; isText: boolean }> {
  const isText = await beginsAsText(path, isDeclaredText);
  const found = (await fileTypeFromFile(path))?.mime ?? null;
  // Some signatures are two letters long, and a text may begin with them.
  return { sniffed: isText && found !== null && !textualTypes.test(found) ? null : found, isText };
}

async function beginsAsText(path: string, isDeclaredText: boolean): Promise<boolean> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(headBytes), 0, headBytes, 0);
    const head = buffer.subarray(0, bytesRead);
    return isTextIn(head, 'utf-8') || (isDeclaredText && isTextIn(head, legacyCharset(head)));
  } finally {
    await file.close();
  }
}

function isTextIn(head: Buffer, charset: string): boolean {
  try {
    // The last character may be truncated: `stream` allows only that.
    const text = new TextDecoder(charset, { fatal: true }).decode(head, { stream: true });
    return !/[\u0000-\u0008\u000e-\u001a\u001c-\u001f]/.test(text);
  } catch (error) {
    if (error instanceof TypeError) return false;
    throw error;
  }
}

/**
 * The charset of a text that is not UTF-8: a mark at its beginning tells UTF-16. For all others Latin-1 can read their bytes,
 * because control characters have the same bytes in all of them.
 */
function legacyCharset(head: Buffer): string {
  const mark = head.subarray(0, 2).toString('hex');
  return mark === 'fffe' ? 'utf-16le' : mark === 'feff' ? 'utf-16be' : 'latin1';
}

function documentType(claimed: string | null, isText: boolean): string {
  if (claimed === null) return isText ? 'text/plain' : 'application/octet-stream';
  return claimed.startsWith('text/') && !isText ? 'application/octet-stream' : claimed;
}

/** The type of a header, in lower case; null if it is not a type, and for `octet-stream`, which tells nothing. */
function readType(declared: string | null): string | null {
  const [, type, codecs] =
    /^\s*([\w.+-]{1,60}\/[\w.+-]{1,120})\s*(?:;\s*codecs="?([\w.,-]{1,40})"?)?/i.exec(declared ?? '') ?? [];
  if (type === undefined || /^(application|binary)\/octet-stream$/i.test(type)) return null;
  return codecs === undefined ? type.toLowerCase() : `${type.toLowerCase()}; codecs=${codecs}`;
}

function essence(mimetype: string): string {
  return mimetype.split(';', 1)[0]!;
}

/** Whether a container may hold the claimed type: audio or video in a video container, a document in an archive. */
function isWithin(claimed: string, container: string): boolean {
  const isVideoContainer = !/^application\/(zip|x-cfb|xml)$/.test(essence(container));
  const kind = kindOf(claimed);
  return isVideoContainer ? kind === 'audio' || kind === 'video' : kind === 'document';
}
