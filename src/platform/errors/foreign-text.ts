/** What tells of this machine and its network, or of a program's insides, and nothing about the caller's request. */
const internals: readonly [pattern: RegExp, instead: string][] = [
  [/\bnet::ERR_\w+/g, 'a network error'],
  // URLs, also of files.
  [/\b[a-z][a-z\d+.-]*:\/\/[^\s"'<>)]*/gi, '…'],
  // Addresses, with or without a port.
  [/\b(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?\b/g, '…'],
  [/\[[\da-f]*:[\da-f:.]*\](?::\d{1,5})?|(?<![\w:])(?:[\da-f]{0,4}:){2,7}[\da-f]{0,4}(?![\w:])/gi, '…'],
  // Names of machines with a port.
  [/\b[a-z][\w-]*(?:\.[\w-]+)*:\d{2,5}\b/gi, '…'],
  // Paths of files, from the root or from a parent folder.
  [/(?<![\w.…/])(?:\.{1,2}|~)?(?:\/[\w.@+-]+){2,}\/?/g, '…'],
];

/**
 * The first line of an error of another program, as a tenant may see it: without URLs, addresses, paths and the codes of a browser's
 * network errors. The log keeps the whole text.
 * @param text for example an error of WhatsApp Web
 */
export function foreignText(text: string, maxLength = 500): string {
  const [line = ''] = text.split('\n', 1);
  return internals
    .reduce((left, [pattern, instead]) => left.replace(pattern, instead), line)
    .slice(0, maxLength);
}
