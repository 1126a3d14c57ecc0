/* Which incoming messages ask for no more messages, or for messages again. */

export type OptOut = 'out' | 'in';

/**
 * The words of each language. A word stands here only if people hardly ever send it alone for another reason. So `cancel`, `cancelar`,
 * `batal`, `end`, `no`, `yes` and `ya` are missing: these answer questions about orders and appointments. Whoever means them to count can
 * add them to a workspace. A wrong `in` is worse than a wrong `out`, so there are fewer words of that kind.
 */
export const optOutWords: Readonly<Record<string, Readonly<Record<OptOut, readonly string[]>>>> = {
  en: {
    out: [
      'stop',
      'stop all',
      'stopall',
      'please stop',
      'stop please',
      'stop messages',
      'stop messaging me',
      'unsubscribe',
      'unsubscribe me',
      'unsub',
      'opt out',
      'optout',
      'opt me out',
      'quit',
      'remove me',
    ],
    in: ['start', 'unstop', 'subscribe', 'resubscribe', 'opt in', 'optin'],
  },
  id: {
    out: [
      'berhenti',
      'berhenti berlangganan',
      'stop berlangganan',
      'stop langganan',
      'tolong berhenti',
      'hentikan',
      'unreg',
      'jangan kirim lagi',
      'jangan kirim pesan lagi',
    ],
    in: ['mulai', 'mulai lagi', 'berlangganan'],
  },
  ms: {
    out: ['berhenti', 'henti', 'berhenti melanggan', 'batal langganan', 'jangan hantar lagi'],
    in: ['mula', 'mula semula', 'langgan', 'melanggan'],
  },
  es: {
    out: [
      'baja',
      'dar de baja',
      'darme de baja',
      'dame de baja',
      'darse de baja',
      'parar',
      'detener',
      'cancelar suscripción',
      'cancelar mi suscripción',
      'desuscribir',
      'desuscribirme',
      'desuscribirse',
      'no enviar más',
      'no más mensajes',
    ],
    in: ['darme de alta', 'dar de alta', 'suscribir', 'suscribirme', 'suscribirse'],
  },
  pt: {
    out: [
      'parar',
      'pare',
      'sair',
      'descadastrar',
      'descadastre-me',
      'me descadastre',
      'cancelar inscrição',
      'cancelar minha inscrição',
      'remover',
      'não quero mais receber',
      'não enviar mais',
    ],
    in: ['inscrever', 'inscrever-me', 'voltar a receber'],
  },
  fr: {
    out: [
      'arrêt',
      'arrêter',
      'arrêtez',
      'désabonner',
      'désabonnement',
      'me désabonner',
      'se désabonner',
      'désinscription',
      'désinscrire',
      'me désinscrire',
      'se désinscrire',
    ],
    in: ['abonner', "m'abonner", "s'abonner", 'réabonner', 'me réabonner'],
  },
  de: {
    out: ['stopp', 'stoppen', 'abmelden', 'bitte abmelden', 'abbestellen', 'austragen', 'bitte austragen'],
    in: ['abonnieren', 'wieder anmelden'],
  },
  ar: {
    out: ['توقف', 'أوقف', 'إيقاف', 'إلغاء الاشتراك', 'الغاء اشتراكي', 'ستوب'],
    in: ['اشترك', 'إعادة الاشتراك'],
  },
  hi: {
    out: ['स्टॉप', 'बंद करो', 'बंद करें', 'रोकें', 'संदेश बंद करें', 'मैसेज बंद करो', 'अनसब्सक्राइब', 'सदस्यता रद्द करें'],
    in: ['स्टार्ट', 'शुरू करें', 'शुरू करो', 'सब्सक्राइब'],
  },
};

/** What a person may send around the word, in UTF-16 code units. A longer message is never the word alone. */
const maxLength = 200;
export const maxOwnWords = 100;
export const maxOwnWordLength = 60;

/** Words of a workspace, as {@link ownOptOutWords} makes them. */
export type OwnOptOutWords = ReadonlyMap<string, OptOut>;

/** Accents of Latin letters, and the vowel signs and hamzas of Arabic letters. The signs of Hindi are letters of their own and stay. */
const accents = /[\u0300-\u036f\u064b-\u0655\u0670\u0640]/g;
const ignored = /[\p{Cf}\p{Variation_Selector}]/gu;
const between = /[^\p{L}\p{M}\p{N}]+/gu;

const none: OwnOptOutWords = new Map();
const known = new Map<string, OptOut>();
for (const kind of ['in', 'out'] as const)
  for (const words of Object.values(optOutWords))
    for (const word of words[kind]) known.set(plainWords(word), kind);

/**
 * The words that a workspace adds. A word that is in both lists, or in a list here and in the other one there, means what the workspace
 * says; `out` comes first.
 * @throws RangeError with the cure, if a word is too long or has no letter or digit, or there are too many
 */
export function ownOptOutWords(own: Partial<Record<OptOut, readonly string[]>>): OwnOptOutWords {
  const words = new Map<string, OptOut>();
  for (const kind of ['in', 'out'] as const)
    for (const word of own[kind] ?? []) {
      if (word.length > maxOwnWordLength)
        throw new RangeError(`A word to opt ${kind} has at most ${maxOwnWordLength} characters.`);
      const plain = plainWords(word);
      if (plain === '')
        throw new RangeError(`"${word}" cannot be a word to opt ${kind}: it needs a letter or a digit.`);
      words.set(plain, kind);
    }
  if (words.size > maxOwnWords)
    throw new RangeError(`A workspace has at most ${maxOwnWords} words of its own. Remove some.`);
  return words;
}

/**
 * Whether a message asks for no more messages (`out`), or for messages again (`in`). Only the whole message counts: `STOP!` does,
 * "stop by at five" does not. Case, white space, punctuation, emoji, accents, invisible characters and full-width forms do not count, and
 * neither does repetition (`stop stop`) or spacing (`S T O P`).
 */
export function optOutOf(text: string, own: OwnOptOutWords = none): OptOut | null {
  if (text.length > maxLength) return null;
  const words = plainWords(text);
  return own.get(words) ?? known.get(words) ?? null;
}

/** Whether a text for recipients names a word to opt out, for example "Reply STOP to get no more messages". */
export function namesOptOut(text: string, own: OwnOptOutWords = none): boolean {
  const words = ` ${spacedWords(text)} `;
  return [...known, ...own].some(([word, kind]) => kind === 'out' && words.includes(` ${word} `));
}

function plainWords(text: string): string {
  const words = spacedWords(text).split(' ');
  if (words.length > 1 && words.every((word) => word.length === 1)) return words.join('');
  return words.every((word) => word === words[0]) ? words[0]! : words.join(' ');
}

function spacedWords(text: string): string {
  return text
    .normalize('NFKD')
    .toLowerCase()
    .replace(accents, '')
    .replace(ignored, '')
    .replace(between, ' ')
    .trim();
}
