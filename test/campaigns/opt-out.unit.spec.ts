import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { optOutOf, optOutWords, ownOptOutWords } from '../../src/campaigns/opt-out.js';

describe('a message opts out', () => {
  it.each([
    'STOP',
    ' stop. ',
    'Stop!!!',
    '"stop"',
    '🛑 STOP 🛑',
    'ＳＴＯＰ',
    'S\u200bT\u2060OP\ufeff',
    's t o p',
    'stop stop STOP',
    'Stop\nall',
    'please, stop',
    'Unsubscribe',
    'OPT-OUT',
    'Berhenti',
    'berhenti berlangganan.',
    'UNREG',
    'Baja',
    'Darme de baja, ',
    'cancelar suscripcion',
    'PARAR',
    'Sair',
    'NÃO QUERO MAIS RECEBER',
    'nao quero mais receber',
    'ARRET',
    'arrêt',
    'De\u0301sabonner',
    'Stopp',
    'abmelden!',
    'إيقاف',
    'ايقاف',
    'الغاء الإشتراك',
    'تـوقـف',
    'बंद करें।',
    'स्टॉप',
  ])('%s', (text) => {
    expect(optOutOf(text)).toBe('out');
  });
});

describe('a message opts in again', () => {
  it.each([
    'START',
    'start.',
    'Unstop',
    'Mulai',
    'mulai lagi!',
    'darme de alta',
    'voltar a receber',
    "M'abonner",
    'm’abonner',
    'اشترك',
    'शुरू करें',
  ])('%s', (text) => {
    expect(optOutOf(text)).toBe('in');
  });
});

describe('a message is an ordinary answer', () => {
  it.each([
    '',
    ' ',
    '🛑',
    '?',
    'stop by at five',
    "don't stop",
    'non-stop',
    'Bus stop',
    'stopped',
    'no',
    'No.',
    'tidak',
    'yes',
    'ya',
    'ok',
    'cancel',
    'cancelar',
    'batal',
    'end',
    'da',
    'alta',
    'anmelden',
    'la temperatura baja',
    'bus berhenti di mana?',
    'रुको',
    'a b c',
    '1',
    '2',
    `stop${' '.repeat(200)}`,
    // Repetition does not count, but so long a text is not read.
    'stop '.repeat(100_000),
  ])('%j', (text) => {
    expect(optOutOf(text)).toBeNull();
  });
});

describe('the words of a workspace', () => {
  it('count beside the others, in any spelling', () => {
    const own = ownOptOutWords({ out: ['Genug!', '9'], in: ['Weiter bitte'] });
    expect(optOutOf('GENUG', own)).toBe('out');
    expect(optOutOf(' 9.', own)).toBe('out');
    expect(optOutOf('weiter, bitte', own)).toBe('in');
    expect(optOutOf('stop', own)).toBe('out');
    expect(optOutOf('genug')).toBeNull();
  });

  it('come before the others, and out before in', () => {
    expect(optOutOf('start', ownOptOutWords({ out: ['start'] }))).toBe('out');
    expect(optOutOf('stop', ownOptOutWords({ in: ['stop'] }))).toBe('in');
    expect(optOutOf('x', ownOptOutWords({ out: ['x'], in: ['X'] }))).toBe('out');
  });

  it('are refused with the reason', () => {
    expect(() => ownOptOutWords({ out: ['!!'] })).toThrow(/"!!" cannot be a word to opt out/);
    expect(() => ownOptOutWords({ in: ['x'.repeat(61)] })).toThrow(/at most 60/);
    expect(() => ownOptOutWords({ out: Array.from({ length: 101 }, (_, n) => `w${n}`) })).toThrow(
      /at most 100/,
    );
  });
});

it('no word means both in the lists, and every word is found as people write it', () => {
  for (const language of Object.values(optOutWords))
    for (const kind of ['out', 'in'] as const)
      for (const word of language[kind]) {
        expect(optOutOf(word), word).toBe(kind);
        expect(optOutOf(`  ${word.toUpperCase()} !`), word).toBe(kind);
        expect(optOutOf(`x ${word}`), word).toBeNull();
      }
});

it('the words are those of the docs', () => {
  const page = readFileSync(new URL('../../docs/campaign-rules.md', import.meta.url), 'utf8');
  const rows = [...page.matchAll(/^\| (\w\w) +\| (`.*?) +\| (`.*?) +\|$/gm)].map(
    ([, language, out, inAgain]) => [language, { out: wordsOf(out!), in: wordsOf(inAgain!) }],
  );
  expect(Object.fromEntries(rows)).toEqual(optOutWords);
});

function wordsOf(cell: string): string[] {
  return [...cell.matchAll(/`([^`]+)`/g)].map(([, word]) => word!);
}

it('any text has an answer', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 220 }), (units) => {
      const text = String.fromCharCode(...units);
      expect([null, 'out', 'in']).toContain(optOutOf(text));
    }),
  );
});
