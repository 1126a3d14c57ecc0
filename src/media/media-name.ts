/** In characters; file systems take no longer one. */
const longestName = 200;

/** A name without a path and without what no file system or header takes; null when nothing is left of it. */
export function cleanName(name: string | null): string | null {
  const last = (name ?? '').split(/[/\\]/).at(-1)!;
  const clean = last
    .toWellFormed()
    .replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '')
    // Windows takes no notice of what a name ends with: a program would not be known by it.
    .replace(/(?<![\s.])[\s.]+$/, '')
    .trimStart();
  if (clean === '') return null;
  return [...clean].length <= longestName ? clean : shorten(clean);
}

/** Keeps the end, which says what it is. */
function shorten(name: string): string {
  const extension = /\.[^.]{1,16}$/.exec(name)?.[0] ?? '';
  return (
    [...name.slice(0, name.length - extension.length)].slice(0, longestName - extension.length).join('') +
    extension
  );
}
