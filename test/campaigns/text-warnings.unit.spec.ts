import 'reflect-metadata';
import { describe, expect, it } from 'vitest';
import { parseMessageTemplate, type TemplatedMessage } from '../../src/campaigns/message-template.js';
import { ownOptOutWords } from '../../src/campaigns/opt-out.js';
import { textWarningCodes, textWarningsOf } from '../../src/campaigns/text-warnings.js';

const codesOf = (message: TemplatedMessage, options: { spin?: boolean } = {}) =>
  textWarningsOf(parseMessageTemplate(message, options)).map(({ code, path }) => `${code} ${path}`);
/** A text without any other warning. */
const fine = 'Dear {{name}}, your parcel is here. Reply STOP to get no more messages.';

describe('a text is warned about', () => {
  it.each<[string, TemplatedMessage, string]>([
    ['that is the same for all', { text: fine.replace('{{name}}', 'customer') }, 'text.identical text'],
    [
      'whose only variable is the number',
      { text: fine.replace('{{name}}', '{{to}}') },
      'text.identical text',
    ],
    ['that tells no way out', { text: 'Dear {{name}}, hello.' }, 'text.no_opt_out text'],
    ['with a short link', { text: `${fine} https://BIT.ly/abc` }, 'text.link_shortener text'],
    [
      'with a short link without a scheme',
      { media: { caption: `${fine} (s.id/x)` } },
      'text.link_shortener media.caption',
    ],
    ['with a short link to a variable', { text: `${fine} tinyurl.com/{{code}}` }, 'text.link_shortener text'],
    ['that is very long', { text: fine + ' word'.repeat(200) }, 'text.long text'],
    ['of capitals', { text: '{{name}}, BUY NOW OR NEVER! STOP' }, 'text.capitals text'],
    ['with the braces of another program', { text: `${fine} {first_name}` }, 'text.single_braces text'],
  ])('%s', (_, message, warning) => {
    expect(codesOf(message)).toEqual([warning]);
  });

  it('in words that say why and what to do', () => {
    const message = { text: 'BUY CHEAP THINGS {CITY} NOW AT bit.ly/x '.toUpperCase().repeat(30) };
    const warnings = textWarningsOf(parseMessageTemplate(message));
    expect(warnings.map(({ code }) => code).sort()).toEqual([...textWarningCodes].sort());
    for (const { message: sentence } of warnings) {
      expect(sentence).toMatch(/^\S.*\. .*\.$/);
      expect(sentence).not.toMatch(/\b(will be banned|safe|guarantee)/i);
    }
    expect(warnings.find(({ code }) => code === 'text.single_braces')!.message).toBe(
      '{CITY} is sent as it stands. For the value of a variable write {{CITY}}.',
    );
  });
});

describe('a text is not warned about', () => {
  it.each<[string, TemplatedMessage, boolean?]>([
    ['with a variable and a way out', { text: fine }],
    ['with choices', { text: '{Hello|Good day}, reply "berhenti" to stop.' }, true],
    [
      'with another domain',
      { text: `${fine} https://example.com/bit.ly https://xbit.ly/ bit.ly.example.com me@t.co at.co` },
    ],
    ['with the code of WhatsApp', { text: `${fine} https://wa.me/6281234567890` }],
    ['with a few capitals', { text: '{{name}} OTP 123 STOP' }],
    ['in a script without capitals', { text: 'नमस्ते {{name}}, यह संदेश बंद करें लिखकर रोका जा सकता है' }],
    ['with JSON', { text: `${fine} {"a": 1} { } {1}` }],
    ['that is missing', { location: { name: 'Shop' } }],
    ['of a file', { media: { url: 'https://bit.ly/x' } }],
  ])('%s', (_, message, spin = false) => {
    expect(codesOf(message, { spin })).toEqual([]);
  });

  it('with a word of the workspace', () => {
    const template = parseMessageTemplate({ text: 'Dear {{name}}, write "genug".' });
    expect(textWarningsOf(template, ownOptOutWords({ out: ['Genug'] }))).toEqual([]);
    expect(textWarningsOf(template).map(({ code }) => code)).toEqual(['text.no_opt_out']);
  });
});

it('a huge text is read in bounded time', () => {
  const template = parseMessageTemplate({ text: 'a.bit.ly-{a_'.repeat(5_000) });
  const start = performance.now();
  textWarningsOf(template);
  expect(performance.now() - start).toBeLessThan(1_000);
});
