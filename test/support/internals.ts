/** What no answer may tell a tenant, besides the addresses and folders of the system under test. */
const patterns = [
  /net::ERR_\w+/g,
  /\b(?:127|10|192\.168|169\.254)(?:\.\d{1,3}){2,3}\b/g,
  /\blocalhost\b/gi,
  /::1\b/g,
  /\bfile:\/\/\S*/g,
  /\bE(?:CONNREFUSED|CONNRESET|NOENT|ACCES|PIPE|TIMEDOUT|HOSTUNREACH|NOTFOUND|ADDRINUSE)\b.*[/\d].*/g,
  /(?:\/[\w.@-]+)*\/(?:node_modules|dist|src|var|tmp|srv|home|usr|etc|proc)\/[\w./@-]*/g,
  /\bat \S+ \(\S+:\d+:\d+\)/g,
  /\S+\.internal\b/g,
];

/**
 * What a text tells of the machine that Flotilla runs on.
 * @param own addresses, ports and folders of the system under test
 */
export function internals(text: string, own: readonly string[] = []): string[] {
  return [
    ...patterns.flatMap((pattern) => text.match(pattern) ?? []),
    ...own.filter((secret) => text.includes(secret)),
  ];
}
