import type { MsgKey } from './ids.js';
import type { Chat, Collections, Msg } from './models.js';

const OFFLINE_NOTIFICATIONS = 'WAGlobalOfflineNotifications';

/** What the page shows: attributes of its root element say which chat is open, at which message, and which drawer beside it. */
class Screen {
  #root = document.getElementById('app')!;

  show(chat: Chat, message?: MsgKey): void {
    this.#set('chat', chat.id._serialized);
    this.#set('message', message?.toString());
  }

  openDrawer(name: 'info' | 'search' | 'message-info', of: string): void {
    this.#set('drawer', name);
    this.#set('drawerOf', of);
  }

  closeDrawer(): void {
    this.#set('drawer', undefined);
    this.#set('drawerOf', undefined);
  }

  #set(name: string, value: string | undefined): void {
    if (value === undefined) delete this.#root.dataset[name];
    else this.#root.dataset[name] = value;
  }
}

/** The modules and commands of WhatsApp Web that change what the page shows, and settings of this browser. */
export function screenModules({ Msg: msgs }: Collections, cmd: object) {
  const screen = new Screen();
  Object.assign(cmd, {
    openChatBottom: async ({ chat }: { chat: Chat }) => screen.show(chat),
    openChatAt: async ({ chat, msgContext }: { chat: Chat; msgContext: { msg: Msg } }) =>
      screen.show(chat, msgContext.msg.id),
    openDrawerMid: async (chat: Chat) => screen.openDrawer('info', chat.id._serialized),
    chatSearch: async (chat: Chat) => screen.openDrawer('search', chat.id._serialized),
    msgInfoDrawer: async (msg: Msg) => screen.openDrawer('message-info', msg.id.toString()),
  });
  return {
    WAWebDrawerManager: { DrawerManager: { closeDrawerRight: async () => screen.closeDrawer() } },
    WAWebChatMessageSearch: {
      getSearchContext: async (_chat: Chat, key: MsgKey) => {
        const { messages } = await msgs.getMessagesById([key.toString()]);
        if (!messages[0]) throw new Error(`There is no message ${key.toString()}`);
        return { msg: messages[0] };
      },
    },
    WAWebUserPrefsNotifications: {
      getGlobalOfflineNotifications: () => localStorage.getItem(OFFLINE_NOTIFICATIONS) === 'true',
      setGlobalOfflineNotifications: async (isOn: boolean) =>
        localStorage.setItem(OFFLINE_NOTIFICATIONS, String(isOn)),
    },
    // Notes about customers belong to business accounts of some countries.
    WAWebBizGatingUtils: { smbNotesV1Enabled: () => false },
  };
}
