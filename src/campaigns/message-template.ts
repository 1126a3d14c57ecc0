import {
  isHttpUrl,
  maxCaptionLength,
  maxFilenameLength,
  maxOptionLength,
  maxPlaceAddressLength,
  maxPlaceNameLength,
  maxQuestionLength,
  maxUrlLength,
} from '../messages/content.dto.js';
import { maxTextLength } from '../messages/message-rules.js';
import { type FieldError, ValidationFailed } from '../platform/errors/problem.js';
import {
  parseTemplate,
  render,
  type Template,
  TemplateError,
  type TemplateRecipient,
  type TemplateVariable,
  variableKey,
  variablesOf,
} from './template.js';

/** The parts of a message that hold templates. */
export interface TemplatedMessage {
  text?: string | null;
  media?: { url?: string | null; caption?: string | null; filename?: string | null } | null;
  location?: { name?: string | null; address?: string | null } | null;
  poll?: { question: string; options: string[] } | null;
}

/** A message whose texts are parsed. It does not change, so that many recipients share it. */
export interface MessageTemplate<Message extends TemplatedMessage> {
  readonly message: Message;
  readonly texts: readonly TemplatedText[];
}

export interface TemplatedText {
  /** For example `media.caption` or `poll.options.1`. */
  path: string;
  source: string;
  template: Template;
  rule: TextRule;
}

export type RenderedMessage<Message> =
  | { message: Message; missing: []; errors: [] }
  /** Nothing can be sent: `missing` are the variables without value and fallback, `errors` what the values make wrong. */
  | { message: null; missing: string[]; errors: FieldError[] };

interface TextRule {
  read(message: TemplatedMessage): string | null | undefined;
  /** Writes into a copy whose objects are all its own. */
  write(copy: TemplatedMessage, text: string): void;
  maxLength: number;
  isUrl?: true;
}

/** WhatsApp's own limits are those of a message that is sent directly. */
const rules: Record<string, TextRule> = {
  text: {
    read: ({ text }) => text,
    write: (copy, text) => (copy.text = text),
    maxLength: maxTextLength,
  },
  'media.url': {
    read: ({ media }) => media?.url,
    write: ({ media }, text) => (media!.url = text),
    maxLength: maxUrlLength,
    isUrl: true,
  },
  'media.caption': {
    read: ({ media }) => media?.caption,
    write: ({ media }, text) => (media!.caption = text),
    maxLength: maxCaptionLength,
  },
  'media.filename': {
    read: ({ media }) => media?.filename,
    write: ({ media }, text) => (media!.filename = text),
    maxLength: maxFilenameLength,
  },
  'location.name': {
    read: ({ location }) => location?.name,
    write: ({ location }, text) => (location!.name = text),
    maxLength: maxPlaceNameLength,
  },
  'location.address': {
    read: ({ location }) => location?.address,
    write: ({ location }, text) => (location!.address = text),
    maxLength: maxPlaceAddressLength,
  },
  'poll.question': {
    read: ({ poll }) => poll?.question,
    write: ({ poll }, text) => (poll!.question = text),
    maxLength: maxQuestionLength,
  },
};

const optionRule = (index: number): TextRule => ({
  read: ({ poll }) => poll?.options[index],
  write: ({ poll }, text) => (poll!.options[index] = text),
  maxLength: maxOptionLength,
});

/**
 * Parses every text of a message.
 * @param path where the message is in the request, for example `message`
 * @throws ValidationFailed with every text that is no template, or that is too long for every recipient
 */
export function parseMessageTemplate<Message extends TemplatedMessage>(
  message: Message,
  { spin = false, path = 'message' }: { spin?: boolean; path?: string } = {},
): MessageTemplate<Message> {
  const errors: FieldError[] = [];
  const texts: TemplatedText[] = [];
  for (const [name, rule] of rulesOf(message)) {
    const source = rule.read(message);
    if (source === undefined || source === null) continue;
    try {
      const template = parseTemplate(source, { spin });
      if (template.minLength > rule.maxLength)
        errors.push({ path: `${path}.${name}`, message: tooLong(template.minLength, rule.maxLength) });
      texts.push({ path: name, source, template, rule });
    } catch (error) {
      if (!(error instanceof TemplateError)) throw error;
      errors.push({ path: `${path}.${name}`, message: error.message });
    }
  }
  if (errors.length > 0) throw new ValidationFailed(errors);
  return { message, texts };
}

function rulesOf({ poll }: TemplatedMessage): [string, TextRule][] {
  const options = (poll?.options ?? []).map((_option, index): [string, TextRule] => [
    `poll.options.${index}`,
    optionRule(index),
  ]);
  return [...Object.entries(rules), ...options];
}

/** The variables of all texts, each once. A variable has a fallback if each of its uses has one. */
export function variablesOfMessage({ texts }: MessageTemplate<TemplatedMessage>): TemplateVariable[] {
  const found = new Map<string, TemplateVariable>();
  for (const { template } of texts)
    for (const variable of variablesOf(template)) {
      const known = found.get(variable.key);
      if (known) known.hasFallback &&= variable.hasFallback;
      else found.set(variable.key, { ...variable });
    }
  return [...found.values()];
}

/**
 * The message for one recipient, or why there is none: variables without a value, or texts that the values make too long, empty, no URL,
 * or the same as another option of the poll.
 */
export function renderMessage<Message extends TemplatedMessage>(
  { message, texts }: MessageTemplate<Message>,
  recipient: TemplateRecipient,
): RenderedMessage<Message> {
  const copy: TemplatedMessage = { ...message };
  if (message.media) copy.media = { ...message.media };
  if (message.location) copy.location = { ...message.location };
  if (message.poll) copy.poll = { ...message.poll, options: [...message.poll.options] };
  const missing = new Map<string, string>();
  const errors: FieldError[] = [];
  for (const { path, template, rule } of texts) {
    const rendered = render(template, recipient);
    if (rendered.missing !== null) {
      for (const name of rendered.missing) missing.set(variableKey(name), name);
      continue;
    }
    const problem = problemOf(rendered.text, rule);
    if (problem === null) rule.write(copy, rendered.text);
    else errors.push({ path, message: problem });
  }
  if (missing.size === 0 && errors.length === 0 && copy.poll && hasTwins(copy.poll.options))
    errors.push({
      path: 'poll.options',
      message: 'must all be different: with the variables of this recipient, two options are the same',
    });
  return missing.size === 0 && errors.length === 0
    ? { message: copy as Message, missing: [], errors: [] }
    : { message: null, missing: [...missing.values()], errors };
}

function problemOf(text: string, { maxLength, isUrl }: TextRule): string | null {
  if (text.length > maxLength) return tooLong(text.length, maxLength);
  if (!/\S/.test(text))
    return 'is blank with the variables of this recipient: give a variable a value or a fallback';
  if (isUrl && !isHttpUrl(text))
    return `must be an http or https URL, and with the variables of this recipient it is ${text.slice(0, 100).toWellFormed()}`;
  return null;
}

function tooLong(length: number, maxLength: number): string {
  return `must be at most ${maxLength} characters with the values of the variables, and has ${length}; most emoji count as two. Shorten the text or the values`;
}

function hasTwins(options: readonly string[]): boolean {
  return new Set(options.map((option) => option.trim())).size < options.length;
}
