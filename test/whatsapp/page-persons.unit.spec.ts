import { afterEach, expect, it, vi } from 'vitest';
import { installPersons } from '../../src/whatsapp/in-page/page-persons.js';
import type { PageFlotilla } from '../../src/whatsapp/in-page/page-functions.js';
import { fake } from '../support/fake.js';

/* Which id of a person a message goes to. The function runs in a page; here it sees the modules that a test gives. */

const asked = '5511987654321@c.us';
const own = '551187654321@c.us';
const lid = '77@lid';

afterEach(() => vi.unstubAllGlobals());

it.each<[string, string, Record<string, string>, object]>([
  ['the number itself', asked, {}, { outcome: 'reached' }],
  ['another number', own, {}, { outcome: 'other_id', chatId: own }],
  ['its hidden number', lid, { [asked]: lid, [lid]: asked }, { outcome: 'reached' }],
  ['its hidden number, known under two numbers', lid, { [asked]: lid, [lid]: own }, { outcome: 'reached' }],
  ['the hidden number of another number', lid, { [lid]: own }, { outcome: 'other_id', chatId: own }],
  ['a hidden number that the page does not know', lid, {}, { outcome: 'other_id', chatId: lid }],
])('a number for which WhatsApp answers with %s', async (_what, answer, aliases, outcome) => {
  const createWid = (id: string) => ({ _serialized: id });
  const modules: Record<string, unknown> = {
    WAWebCollections: { Chat: { get: () => undefined } },
    WAWebWidFactory: { createWid },
    WAWebQueryExistsJob: { queryWidExists: async () => ({ wid: createWid(answer) }) },
  };
  const flotilla = fake<PageFlotilla>({ aliasOf: (chatId) => aliases[chatId] ?? null, reach: undefined });
  vi.stubGlobal('window', { require: (name: string) => modules[name], flotilla });
  installPersons();
  expect(await flotilla.reach!(asked, 'allowed', false)).toEqual(outcome);
});
