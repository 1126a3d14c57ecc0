import 'reflect-metadata';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  parseMessageTemplate,
  renderMessage,
  type TemplatedMessage,
  variablesOfMessage,
} from '../../src/campaigns/message-template.js';
import {
  maxValueLength,
  parseTemplate,
  render,
  TemplateError,
  toVariables,
  variablesOf,
  variantOf,
} from '../../src/campaigns/template.js';
import { ValidationFailed } from '../../src/platform/errors/problem.js';

const to = '6281234567890';
const textOf = (
  template: string,
  variables: Record<string, unknown> = {},
  options: { spin?: boolean; seed?: string } = {},
) =>
  render(parseTemplate(template, options), {
    to,
    variables: toVariables(variables),
    seed: options.seed ?? 'recipient 1',
  }).text;

const errorOf = (template: string, spin = false): TemplateError => {
  try {
    parseTemplate(template, { spin });
  } catch (error) {
    if (error instanceof TemplateError) return error;
    throw error;
  }
  throw new Error(`${template} is a template`);
};

/** How often each text comes, of many recipients. */
function countsOf(template: string, recipients: number): Map<string, number> {
  const parsed = parseTemplate(template, { spin: true });
  const counts = new Map<string, number>();
  for (let number = 0; number < recipients; number += 1) {
    const { text } = render(parsed, {
      to,
      variables: {},
      seed: `0193a0c4-7d00-7000-8000-${String(number).padStart(12, '0')}`,
    });
    counts.set(text!, (counts.get(text!) ?? 0) + 1);
  }
  return counts;
}

describe('the variables of a template', () => {
  it.each([
    ['Hello {{name}}!', { name: 'Siti' }, 'Hello Siti!'],
    ['Hello {{ First  Name }}!', { 'first name': ' Siti ' }, 'Hello Siti!'],
    [
      '{{NAME}} {{Näme}} {{имя}} {{नाम}} {{الاسم}}',
      { name: 1, näme: 2, Имя: 3, नाम: 4, الاسم: 5 },
      '1 2 3 4 5',
    ],
    ['{{order-no.}} {{a_b}}', { 'Order-No.': 7, A_B: true }, '7 true'],
    ['Hello {{name|there}}', {}, 'Hello there'],
    ['Hello {{ name | dear friend }}', { name: '  ' }, 'Hello dear friend'],
    ['Hello{{name|}}', { name: '\u200b' }, 'Hello'],
    ['{{name|{{}}', null, null],
    ['{{to}} and {{To}}', {}, `${to} and ${to}`],
    ['{{constructor|none}} {{__proto__|none}}', {}, 'none none'],
    ['{{a}} is not read again', { a: '{{b}}' }, '{{b}} is not read again'],
    ['{"json": {"is": "a text"} }', {}, '{"json": {"is": "a text"} }'],
    ['{{{name}}}', { name: 'x' }, '{x}'],
    ['write \\{{name\\}}', {}, 'write {{name}}'],
    [
      '\\\\{{name}} C:\\dir \\\\server ¯\\_(ツ)_/¯ a|b \\| \\',
      { name: 'x' },
      '\\x C:\\dir \\\\server ¯\\_(ツ)_/¯ a|b \\| \\',
    ],
    ['{{name|a \\| b \\} C:\\\\x}}', {}, 'a | b } C:\\\\x'],
  ])('%s', (template, variables, expected) => {
    if (variables === null) expect(() => parseTemplate(template)).toThrow(TemplateError);
    else expect(textOf(template, variables)).toBe(expected);
  });

  it('are listed once, and have a fallback if each use has one', () => {
    expect(variablesOf(parseTemplate('{{to}} {{Name|x}} {{city|}} {{name}} {{City|here}}'))).toEqual([
      { key: 'name', name: 'Name', hasFallback: false },
      { key: 'city', name: 'city', hasFallback: true },
    ]);
    expect(variablesOf(parseTemplate('{a {{x}}|b {{y|1}}}', { spin: true }))).toEqual([
      { key: 'x', name: 'x', hasFallback: false },
      { key: 'y', name: 'y', hasFallback: true },
    ]);
  });

  it('that are missing are named, each once', () => {
    const template = parseTemplate('{{Name}} {{city}} {{name}} {{x|y}}');
    expect(render(template, { to, variables: toVariables({ city: ' \n' }), seed: '' })).toEqual({
      text: null,
      missing: ['Name', 'city'],
    });
  });

  it('of a recipient are texts of a bounded size with different names', () => {
    expect({
      ...toVariables({
        A: ' x\u0000 ',
        b: null,
        c: undefined,
        d: ' \n',
        e: '\u200b',
        a: '',
        '': 1,
        ' ': 2,
        ['n'.repeat(65)]: 3,
      }),
    }).toEqual({ a: 'x' });
    expect(() => toVariables({ Name: 'x', ' name': 'y' })).toThrow(/" name" is there twice/);
    expect(() => toVariables({ a: { b: 1 } })).toThrow(/"a" must be a text or a number/);
    expect(() => toVariables({ a: 'x'.repeat(maxValueLength + 1) })).toThrow(/At most 4096/);
    expect(() => toVariables(Object.fromEntries(Array.from({ length: 201 }, (_, n) => [n, 1])))).toThrow(
      /200/,
    );
  });
});

describe('a template with an error says where it is and what to do', () => {
  it.each([
    ['Hello\nthere {{name', 2, 7, /not closed: write \{\{name}}/],
    ['👍 {{}}', 1, 3, /name of the variable is missing/],
    ['Hi {{first$name}}', 1, 4, /"first\$name" is not the name/],
    [`{{${'n'.repeat(65)}}}`, 1, 1, /at most 64/],
    ['{{name|Sir|Madam}}', 1, 1, /more than one fallback.*\\\|/],
    ['{{a {{b}}', 1, 1, /not closed/],
    ['{name}}', 1, 6, /no \{\{ before it.*\\}\\}/],
    ['a {{{{name}}', 1, 3, /more braces/],
    ['x'.repeat(131_073), 1, 131_073, /131072/],
  ])('%s', (template, line, column, message) => {
    const error = errorOf(template);
    expect(error).toMatchObject({ line, column, message: expect.stringMatching(message) as string });
    expect(error.message).toContain(`line ${line}, column ${column}: `);
  });

  it.each([
    ['a {b|c', 3, /\{ is not closed/],
    ['a {name} b', 3, /two options.*\{\{name}}/],
    ['a } b', 3, /no \{ before it/],
    ['{1|{2|{3|{4|{5|{6|7}}}}}}', 16, /at most 5 deep/],
    [`{${'|'.repeat(50)}}`, 1, /at most 50 options/],
    ['{a|b}'.repeat(201), 1_001, /at most 200 choices/],
  ])('with choices: %s', (template, column, message) => {
    expect(errorOf(template, true)).toMatchObject({
      column,
      message: expect.stringMatching(message) as string,
    });
  });
});

describe('choices', () => {
  it('are only made when asked for', () => {
    expect(textOf('{Hello|Hi} a|b')).toBe('{Hello|Hi} a|b');
  });

  it('are made again in the same way for the same seed', () => {
    const template = '{a|b|c|d|e|f}{a|b|c|d|e|f}{a|b|c|d|e|f}{a|b|c|d|e|f}';
    const texts = Array.from({ length: 200 }, (_, n) => textOf(template, {}, { spin: true, seed: `r${n}` }));
    expect(
      Array.from({ length: 200 }, (_, n) => textOf(template, {}, { spin: true, seed: `r${n}` })),
    ).toEqual(texts);
    expect(new Set(texts).size).toBeGreaterThan(150);
  });

  it.each([
    ['{Hello|Hi|}', ['Hello', 'Hi', '']],
    ['{{a|b}|c}', ['a', 'b', 'c']],
    ['{x|{{to}}}', ['x', to]],
    ['{{{to}}|x{{to|}}y}', [to, `x${to}y`]],
    ['{a\\|b|\\{c\\}|\\{\\{d\\}\\}}', ['a|b', '{c}', '{{d}}']],
    ['{{nothing|a}}', ['a']],
  ])('of %s', (template, texts) => {
    expect([...countsOf(template, 500).keys()].sort()).toEqual([...texts].sort());
  });

  it('are evenly spread over recipients with neighbouring ids, each for itself', () => {
    const recipients = 90_000;
    const counts = countsOf('{a|b|c} {{x|}}{1|2|3}{!|{?|.}}', recipients);
    expect(counts.size).toBe(27);
    for (const [text, count] of counts) {
      const expected = recipients / (text.endsWith('!') ? 18 : 36);
      expect(Math.abs(count - expected), text).toBeLessThan(5 * Math.sqrt(expected));
    }
    expect(parseTemplate('{a|b|c} {1|2|3}{!|{?|.}}', { spin: true }).variants).toBe(27);
  });

  it('have a bounded number of variants, however many there are', () => {
    expect(parseTemplate('{a|b}'.repeat(200), { spin: true }).variants).toBe(Number.MAX_SAFE_INTEGER);
  });
});

describe('variants', () => {
  it('get their shares exactly in the long run, and a recipient always the same one', () => {
    const counts = [0, 0, 0];
    for (let number = 0; number < 100_000; number += 1) {
      const seed = `recipient ${number}`;
      const index = variantOf(seed, [70, 0, 30]);
      if (number < 100) expect(variantOf(seed, [70, 0, 30])).toBe(index);
      counts[index]! += 1;
    }
    expect(counts[1]).toBe(0);
    expect(Math.abs(counts[0]! - 70_000)).toBeLessThan(5 * Math.sqrt(21_000));
  });

  it('say nothing about the choices in their texts', () => {
    const template = parseTemplate('{a|b}', { spin: true });
    let same = 0;
    for (let number = 0; number < 20_000; number += 1) {
      const { text } = render(template, { to, variables: {}, seed: `${number}` });
      if ((text === 'a') === (variantOf(`${number}`, [1, 1]) === 0)) same += 1;
    }
    expect(Math.abs(same - 10_000)).toBeLessThan(500);
  });

  it('need a share above 0', () => {
    for (const shares of [[], [0, 0], [NaN], [-1, 2], [Infinity]])
      expect(() => variantOf('x', shares)).toThrow(RangeError);
  });
});

describe('every template', () => {
  const piece = fc.oneof(
    fc.constantFrom('{', '}', '|', '{{', '}}', '\\', '{{name}}', '{{name|x}}', '{a|b}', '\n', 'é', '👍', ' '),
    fc.string({ maxLength: 5 }),
  );
  const anyText = fc.array(piece, { maxLength: 20 }).map((pieces) => pieces.join(''));

  it('is an error with its place, or becomes a text', () => {
    fc.assert(
      fc.property(anyText, fc.boolean(), fc.string(), (text, spin, seed) => {
        let template;
        try {
          template = parseTemplate(text, { spin });
        } catch (error) {
          expect(error).toBeInstanceOf(TemplateError);
          const { line, column } = error as TemplateError;
          expect(line).toBeLessThanOrEqual(text.split(/\r\n|\r|\n/).length);
          expect(column).toBeLessThanOrEqual(text.length + 1);
          return;
        }
        const variables = toVariables(
          Object.fromEntries(variablesOf(template).map(({ name }) => [name, 'v'])),
        );
        const rendered = render(template, { to, variables, seed });
        expect(rendered.missing).toBeNull();
        expect(rendered.text!.length).toBeGreaterThanOrEqual(template.minLength);
        // A backslash writes a brace, and so does the first of three.
        if (!/\\|\{\{\{/.test(text)) expect(rendered.text).not.toContain('{{');
      }),
      { numRuns: 1_000 },
    );
  });

  it('can hold any text with backslashes in front of its braces', () => {
    fc.assert(
      fc.property(anyText, fc.boolean(), (text, spin) => {
        const escaped = text.replace(/(\\*)([{}|])/g, (_, slashes: string, char: string) =>
          char === '|' && !spin ? slashes + char : `${slashes}${slashes}\\${char}`,
        );
        expect(textOf(escaped, {}, { spin })).toBe(text);
      }),
    );
  });
});

describe('a message', () => {
  const recipient = (variables: Record<string, unknown>) => ({
    to,
    variables: toVariables(variables),
    seed: 'r',
  });
  const rendered = (message: TemplatedMessage, variables: Record<string, unknown>) =>
    renderMessage(parseMessageTemplate(message), recipient(variables));

  it('has templates in each of its texts, and keeps its other fields', () => {
    const message = {
      type: 'image',
      text: '{{a}}',
      media: {
        url: 'https://example.com/{{a}}.png',
        caption: 'for {{b}}',
        filename: '{{a}}.png',
        mimetype: 'image/png',
      },
      location: { latitude: 1, longitude: 2, name: '{{c|Shop}}', address: '{{a}} Street' },
      poll: { question: '{{d}}?', options: ['{{a}}', '{{b}}'], multiple: true },
    };
    const template = parseMessageTemplate(message);
    expect(variablesOfMessage(template)).toEqual([
      { key: 'a', name: 'a', hasFallback: false },
      { key: 'b', name: 'b', hasFallback: false },
      { key: 'c', name: 'c', hasFallback: true },
      { key: 'd', name: 'd', hasFallback: false },
    ]);
    expect(renderMessage(template, recipient({ a: 1, b: 2, d: 4 })).message).toEqual({
      type: 'image',
      text: '1',
      media: { url: 'https://example.com/1.png', caption: 'for 2', filename: '1.png', mimetype: 'image/png' },
      location: { latitude: 1, longitude: 2, name: 'Shop', address: '1 Street' },
      poll: { question: '4?', options: ['1', '2'], multiple: true },
    });
    expect(renderMessage(template, recipient({ b: 1 }))).toEqual({
      message: null,
      missing: ['a', 'd'],
      errors: [],
    });
    expect(message.text).toBe('{{a}}');
    expect(message.poll.options).toEqual(['{{a}}', '{{b}}']);
  });

  it('lists all texts with an error by their paths', () => {
    try {
      parseMessageTemplate({ text: '{{', poll: { question: 'ok', options: ['x', '{{a'] } });
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(ValidationFailed);
      expect((error as ValidationFailed).errors?.map(({ path }) => path)).toEqual([
        'message.text',
        'message.poll.options.1',
      ]);
    }
  });

  it.each<[TemplatedMessage, Record<string, unknown>, string, RegExp]>([
    [{ text: '{{a}}'.repeat(17) }, { a: 'x'.repeat(4_000) }, 'text', /at most 65536.*has 68000/],
    [
      { media: { caption: `{{a}}${'x'.repeat(1_000)}` } },
      { a: 'x'.repeat(25) },
      'media.caption',
      /at most 1024/,
    ],
    [{ text: ' {{a|}} ' }, {}, 'text', /is blank/],
    [{ media: { url: '{{photo}}' } }, { photo: 'ftp://x' }, 'media.url', /http or https URL.*ftp:\/\/x/],
    [
      { poll: { question: 'q', options: ['{{a}}', '{{b}}'] } },
      { a: 'x', b: 'x ' },
      'poll.options',
      /different/,
    ],
  ])('is refused for a recipient whose values make it wrong: %j', (message, variables, path, text) => {
    expect(rendered(message, variables)).toEqual({
      message: null,
      missing: [],
      errors: [{ path, message: expect.stringMatching(text) as string }],
    });
  });

  it('is refused at once if it is too long for everybody', () => {
    expect(() => parseMessageTemplate({ media: { caption: 'x'.repeat(1_025) } })).toThrow(
      /message.media.caption: must be at most 1024/,
    );
  });
});
