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
