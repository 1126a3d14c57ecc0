import type { PageFlotilla, PageWindow } from './page-functions.js';

/*
 * The typing indicator, inside the WhatsApp Web page: see page-functions.ts for the rules that such functions follow.
 */

declare const window: PageWindow;

/** Adds `showTyping` to the shared object, once per page load. */
export function installTyping(): void {
  const flotilla: PageFlotilla = window.flotilla!;
  // Ignores the answers and the errors of the indicator, because they must not delay or fail a message.
  flotilla.showTyping ??= async (chat, ms, state) => {
    const show = (shown: string) => {
      window.WWebJS.sendChatstate(shown, chat.id._serialized).catch(() => undefined);
    };
    show(state);
    await new Promise((resolve) => setTimeout(resolve, ms));
    show('stop');
  };
}
