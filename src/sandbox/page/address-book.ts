import { lidOfPhone, phoneOfWid, type Wid } from './ids.js';
import type { Link } from './link.js';
import type { Account, Collections, Contact } from './models.js';

interface NewContact {
  firstName: string;
  lastName?: string;
  phoneNumber: string;
}

interface Parts {
  link: Link;
  account: Account;
  collections: Collections;
}

/** The modules of WhatsApp Web about the people that the account knows. */
export function addressBookModules({ link, account, collections }: Parts) {
  return {
    WAWebSaveContactAction: {
      saveContactAction: async ({ firstName, lastName, phoneNumber }: NewContact): Promise<void> => {
        const name = [firstName, lastName].filter(Boolean).join(' ');
        await link.ask('save-contact', { phone: phoneNumber, name });
      },
    },
    WAWebDeleteContactAction: {
      deleteContactAction: async ({ phoneNumber }: { phoneNumber: Wid }): Promise<void> => {
        await link.ask('save-contact', { phone: phoneOfWid(phoneNumber), name: null });
      },
    },
    WAWebFindCommonGroupsContactAction: {
      findCommonGroups: async (contact: Contact) => {
        const phone = phoneOfWid(contact.id);
        if (phone === account.me?.user) return null;
        const commonGroups = { serialize: () => groupsWith(collections, phone) };
        // Not enumerable, because it is no attribute.
        Object.defineProperty(contact, 'commonGroups', { value: commonGroups, configurable: true });
        return commonGroups;
      },
    },
    WAWebApiDeviceList: {
      getDeviceIds: (wids: Wid[]) =>
        Promise.all(
          wids.map(async (id) => {
            const count = await link.ask('devices', { phone: phoneOfWid(id) });
            return { id, devices: Array.from({ length: count }, (_, device) => ({ id: device })) };
          }),
        ),
    },
  };
}

/** The groups that both the account and this person are in now. */
function groupsWith({ Chat: chats }: Collections, phone: string): { id: Wid }[] {
  const lid = lidOfPhone(phone);
  return chats
    .filter(({ groupMetadata }) => {
      const participants = groupMetadata?.participants;
      return participants?.iAmMember() && participants.get(lid);
    })
    .map(({ id }) => ({ id }));
}
