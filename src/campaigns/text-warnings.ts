import type { MessageTemplate, TemplatedMessage, TemplatedText } from './message-template.js';
import { namesOptOut, type OwnOptOutWords } from './opt-out.js';
import { literalsOf } from './template.js';

/** Something about a text that costs readers or raises the risk of a ban. It stops nothing: WhatsApp's own rules are not known. */
export interface TextWarning {
  code: TextWarningCode;
  /** Where the text is in the message, for example `media.caption`. */
  path: string;
  /** Why it is a risk, and what to do. */
  message: string;
}

export const textWarningCodes = [
  'text.identical',
  'text.no_opt_out',
  'text.link_shortener',
  'text.long',
  'text.capitals',
  'text.single_braces',
] as const;
export type TextWarningCode = (typeof textWarningCodes)[number];

/** Domains whose links lead to any other domain. `wa.me` is WhatsApp's own and leads to a chat only. */
const shorteners = [
  'adf.ly',
  'bit.do',
  'bit.ly',
  'bitly.com',
  'bl.ink',
  'buff.ly',
  'clck.ru',
  'cutt.ly',
  'dub.sh',
  'goo.gl',
  'goo.su',
  'is.gd',
  'j.mp',
  'kutt.it',
  'lnkd.in',
  'ow.ly',
  'qr.ae',
  'rb.gy',
  'rebrand.ly',
  's.id',
  'short.gy',
  'shorturl.at',
  'shorte.st',
  'soo.gd',
  't.co',
  't.ly',
  'tiny.cc',
  'tinyurl.com',
  'u.to',
  'v.gd',
  'vk.cc',
  'x.gd',
];
const shortLink = new RegExp(
  `(?<![\\p{L}\\p{N}.@_-]|[^/]/)(?:www\\.)?(${shorteners.map((domain) => domain.replaceAll('.', '\\.')).join('|')})(?![\\p{L}\\p{N}_-]|\\.[\\p{L}\\p{N}])`,
  'iu',
);
/** What other programs write for a variable. */
const singleBraces = /(?<!\{)\{ ?[\p{L}_][\p{L}\p{M}\p{N}_.-]{0,40} ?\}(?!\})/u;
/** A judgement: about what one screen of a phone shows. In UTF-16 code units. */
const longText = 1_000;
/** A few capitals may be a name or a code. */
const minCapitals = 12;

/** The texts that a person reads as the message. */
const proseAt = new Set(['text', 'media.caption', 'poll.question']);

/** What the preflight of a campaign says about the texts of its message. At most one warning of a kind for each text. */
export function textWarningsOf(
  { texts }: MessageTemplate<TemplatedMessage>,
  own?: OwnOptOutWords,
): TextWarning[] {
  const prose = texts.filter(({ path }) => proseAt.has(path));
  const [main] = prose;
  const warnings: TextWarning[] = [];
  if (main && prose.every(isSameForAll))
    warnings.push({
      code: 'text.identical',
      path: main.path,
      message:
        'Everybody gets the same text. The same text to many people looks like mass sending. Use a variable such as {{name}}, or spin with choices such as {Hello|Good day}.',
    });
  if (main && !prose.some(({ template }) => namesOptOut(literalsOf(template).join(' '), own)))
    warnings.push({
      code: 'text.no_opt_out',
      path: main.path,
      message:
        'The text does not say how to get no more messages. People who see no other way block or report the sender. Add a line such as "Reply STOP to get no more messages".',
    });
  for (const text of texts) warnings.push(...warningsOfText(text));
  return warnings;
}

function isSameForAll({ template }: TemplatedText): boolean {
  return template.variables.length === 0 && template.variants === 1;
}

function warningsOfText({ path, template }: TemplatedText): TextWarning[] {
  const warnings: TextWarning[] = [];
  const literal = literalsOf(template).join(' ');
  const shortener = shortLink.exec(literal)?.[1]?.toLowerCase();
  // A file comes from its URL before anybody sees a link.
  if (shortener !== undefined && path !== 'media.url')
    warnings.push({
      code: 'text.link_shortener',
      path,
      message: `The link of ${shortener} hides where it leads. Spam often has such links, and careful people do not open them. Use a link of your own domain.`,
    });
  if (template.minLength > longText)
    warnings.push({
      code: 'text.long',
      path,
      message: `The text has at least ${template.minLength} characters. Few people read so much in a chat, and people who feel disturbed report the sender. Say the main thing in the first lines, and link to the rest.`,
    });
  if (!/\p{Ll}/u.test(literal) && (literal.match(/\p{Lu}/gu)?.length ?? 0) >= minCapitals)
    warnings.push({
      code: 'text.capitals',
      path,
      message:
        'The text has only capital letters. People read that as shouting, and advertising often looks so. Write it as you would write to one person.',
    });
  const braces = singleBraces.exec(literal)?.[0];
  if (braces !== undefined)
    warnings.push({
      code: 'text.single_braces',
      path,
      message: `${braces} is sent as it stands. For the value of a variable write {${braces}}.`,
    });
  return warnings;
}
