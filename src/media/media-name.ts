import { parse } from 'content-disposition';
import { extension as extensionOf, extensions, lookup as typeOf } from 'mime-types';
import { isUtf8 } from 'node:buffer';
import { mayBe } from './media-type.js';

/** In characters. Longer names do not fit in common file systems. */
const maxNameLength = 200;

/** The name without its path and without characters that file systems or headers refuse; null if nothing is left. */
export function cleanName(name: string | null): string | null {
  const last = (name ?? '').split(/[/\\]/).at(-1)!;
  const clean = last
    .toWellFormed()
    .replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '')
    // Windows ignores dots and spaces at the end of a name: they would hide the extension of a program from the check.
    .replace(/(?<![\s.])[\s.]+$/, '')
    .trimStart();
  if (clean === '') return null;
  return [...clean].length <= maxNameLength ? clean : shorten(clean);
}

/** Keeps the extension, which tells the type. */
function shorten(name: string): string {
  const extension = /\.[^.]{1,16}$/.exec(name)?.[0] ?? '';
  return (
    [...name.slice(0, name.length - extension.length)].slice(0, maxNameLength - extension.length).join('') +
    extension
  );
}

/** The usual extension of types whose first one in the registry nobody uses. */
const usualExtensions: Record<string, string> = {
  'audio/mpeg': 'mp3',
  'audio/ogg': 'ogg',
  'audio/aac': 'aac',
  'audio/flac': 'flac',
  'video/quicktime': 'mov',
  'text/vcard': 'vcf',
  // It says nothing.
  'application/octet-stream': '',
};
/** Extensions of pages that a server runs: they tell nothing of the file that the page gives. */
const serverPages = new Set(['php', 'asp', 'aspx', 'ashx', 'jsp', 'cgi', 'cfm', 'do', 'pl', 'py']);

/** The name that a server gives to a file: in `Content-Disposition` (RFC 6266), or else at the end of the URL's path. */
export function nameOfAnswer(disposition: string | undefined, url: URL): string | null {
  const given = disposition === undefined ? undefined : parse(asUtf8(disposition)).parameters.filename;
  // Browsers undo percent-encoding here too, because many servers encode a plain `filename`.
  return [given, url.pathname.split('/').at(-1)].map(decodedName).find((name) => cleanName(name)) ?? null;
}

/**
 * A name with an extension that fits the type, so that the recipient's device opens the file.
 * @param name null gives a name that consists of little else
 */
export function withFittingExtension(name: string | null, mimetype: string): string | null {
  const type = mimetype.split(';', 1)[0]!;
  const fitting = usualExtensions[type] ?? extensionOf(type);
  if (!fitting) return name;
  if (name === null) return `download.${fitting}`;
  const present = /[^.]\.([a-z0-9]{1,16})$/i.exec(name)?.[1]?.toLowerCase() ?? '';
  const presentType = typeOf(present);
  const isOfServer = serverPages.has(present);
  const fits = extensions[type]?.includes(present) || (presentType !== false && mayBe(presentType, type));
  if (fits && !isOfServer) return name;
  // What follows the last dot need not be an extension: "Offer 3.5" and "v1.final".
  const bare = presentType !== false || isOfServer ? name.slice(0, -present.length - 1) : name;
  return `${bare}.${fitting}`;
}

/** The name of a file that was converted to this type. */
export function renamed(name: string, mimetype: string): string {
  return withFittingExtension(name.replace(/(?<=[^.])\.[a-z0-9]{1,16}$/i, ''), mimetype)!;
}

/** HTTP gives the bytes of a header as Latin-1. Servers that write UTF-8 into it mean UTF-8. */
function asUtf8(header: string): string {
  const bytes = Buffer.from(header, 'latin1');
  if (bytes.toString('latin1') !== header || !isUtf8(bytes)) return header;
  return bytes.toString('utf8');
}

function decodedName(name: string | undefined): string | null {
  try {
    return decodeURIComponent(name ?? '');
  } catch {
    return name!;
  }
}
