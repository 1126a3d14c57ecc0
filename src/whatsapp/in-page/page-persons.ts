import type { PageFlotilla, PageReach, PageWindow } from './page-functions.js';

/*
 * The several ids of one person, inside the WhatsApp Web page. See page-functions.ts for the rules of such functions.
 */

declare const window: PageWindow;

/** Adds `idsOf`, `contactOf` and `reach` to `window.flotilla`, once per page load. */
export function installPersons(): void {
  const flotilla: PageFlotilla = window.flotilla!;
  if (flotilla.reach) return;

  flotilla.idsOf = (chatId) => {
    const alias = flotilla.aliasOf(chatId);
    return alias === null ? [chatId] : [chatId, alias];
  };

  flotilla.contactOf = (chatId) => {
    const { Contact, Blocklist } = window.require('WAWebCollections');
    const getters = window.require('WAWebContactGetters');
    const { getIsMyContact } = window.require('WAWebFrontendContactGetters');
    const ids = flotilla.idsOf!(chatId);
    const held = ids.map((id) => Contact.get(id)).filter((contact) => contact !== undefined);
    // A person with a number and a hidden number may have a contact for each. The address book has the number.
    const contact = held.find(({ id }) => id._serialized.endsWith('@c.us')) ?? held[0];
    if (!contact) return undefined;
    const id = contact.id._serialized;
    return {
      id,
      alias: flotilla.aliasOf(id),
      name: held.map((other) => getters.getName(other)).find(Boolean) ?? null,
      pushname: held.map((other) => getters.getPushname(other)).find(Boolean) ?? null,
      isBusiness: held.some(({ isBusiness }) => isBusiness === true),
      isMyContact: held.some((other) => Boolean(getIsMyContact(other))),
      isBlocked:
        held.some(({ isContactBlocked }) => isContactBlocked) ||
        ids.some((other) => Boolean(Blocklist.get(other))),
    };
  };

  /** The id by number of the person that WhatsApp answers with, if the page knows it. */
  const answeredId = (asked: string, answered: string): string => {
    if (!answered.endsWith('@lid')) return answered;
    const [, alias] = flotilla.idsOf!(answered);
    // WhatsApp may answer a number with its hidden number: then the number is right as it is.
    return flotilla.idsOf!(asked).includes(answered) ? asked : (alias ?? answered);
  };

  flotilla.reach = async (chatId, numberCheck, always): Promise<PageReach> => {
    const { Chat } = window.require('WAWebCollections');
    if (!chatId.endsWith('@c.us') && !chatId.endsWith('@lid')) return { outcome: 'reached' };
    const hasChat = flotilla.idsOf!(chatId).some((id) => Chat.get(id));
    // A hidden number is known only because the person wrote from it.
    const isKnown = hasChat || chatId.endsWith('@lid');
    if ((isKnown && !always) || numberCheck === 'done') return { outcome: 'reached' };
    if (numberCheck === 'paused') return { outcome: hasChat ? 'reached' : 'paused' };
    let found;
    try {
      const wid = window.require('WAWebWidFactory').createWid(chatId);
      found = await window.require('WAWebQueryExistsJob').queryWidExists(wid);
    } catch (error) {
      // The refusal of a question says nothing about the number.
      if (flotilla.refusalOf(error) === null) throw error;
      return { outcome: hasChat ? 'reached' : 'throttled' };
    }
    if (!found?.wid) return { outcome: 'not_registered' };
    const id = answeredId(chatId, found.wid._serialized);
    return id === chatId ? { outcome: 'reached' } : { outcome: 'other_id', chatId: id };
  };
}
