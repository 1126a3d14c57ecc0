import type { PageWindow } from './page-functions.js';

/*
 * What the WhatsApp Web page says of itself, and what is done to it as a whole: see page-functions.ts for the rules that such
 * functions follow.
 */

/** What is used of an element of the page. */
interface PageElement {
  innerText: string;
  click(): void;
  getAttribute(name: string): string | null;
  getClientRects(): ArrayLike<unknown>;
  querySelectorAll(selector: string): Iterable<PageElement>;
}

declare const window: PageWindow;
declare const document: PageElement;

/** The two ids of the account itself, where the page knows them. */
export interface OwnIds {
  /** The digits of the number. */
  phone: string | null;
  lid: string | null;
}

export function readOwnIds(): OwnIds {
  const { getMaybeMePnUser, getMaybeMeLidUser } = window.require('WAWebUserPrefsMeUser');
  return { phone: getMaybeMePnUser()?.user ?? null, lid: getMaybeMeLidUser()?._serialized ?? null };
}

/** Whether this load of the page has what `installFlotilla` makes. */
export function hasFlotilla(): boolean {
  return window.flotilla !== undefined;
}

/** Where the page's connection stands. */
export function connectionState(): { state: string; hasSynced: boolean } {
  const { Socket } = window.require('WAWebSocketModel');
  return { state: Socket.state, hasSynced: Socket.hasSynced === true };
}

/**
 * Looks for a dialog that WhatsApp Web shows ("what's new" and the like), and presses it away when that agrees to nothing.
 * @returns its text, and the label of what was pressed; null when there is none
 */
export function lookForDialog(mayPress: boolean): { text: string; pressed: string | null } | null {
  const isShown = (element: PageElement) => element.getClientRects().length > 0;
  const dialogs = [...document.querySelectorAll('div[role="dialog"], [data-animate-modal-popup]')].filter(
    isShown,
  );
  const dialog = dialogs.at(-1);
  if (!dialog) return null;
  const labelOf = (element: PageElement) =>
    (element.getAttribute('aria-label') ?? element.innerText).replace(/\s+/g, ' ').trim();
  const text = dialog.innerText.replace(/\s+/g, ' ').trim();
  const buttons = [...dialog.querySelectorAll('button, [role="button"]')].filter(isShown);
  const find = (labels: RegExp) => buttons.find((button) => labels.test(labelOf(button)));

  // "Use here" takes the account from another browser, and to close that dialog gives it up: neither is ours to do.
  const isConflict = find(/^use here$/i) !== undefined;
  const asksForMore =
    /\blog(ged)?[ -]?out\b|\bunlink|\bdelete|\bremove|\b(phone|your|new) number\b|\breset\b/i.test(text);
  const away = find(/^(not now|maybe later|later|skip|dismiss|close)$/i);
  // These agree to whatever the dialog says.
  const onward = asksForMore ? undefined : find(/^(continue|ok|okay|got it|done)$/i);
  const button = isConflict ? undefined : (onward ?? away);
  if (!mayPress || !button) return { text, pressed: null };
  button.click();
  return { text, pressed: labelOf(button) };
}

/** Tells the library what it may have missed: it waits for a change of `hasSynced` that can come before it listens. */
export function announceSynced(): void {
  window.onAppStateHasSyncedEvent?.();
}

/** Makes the page's connection anew; it sends again, under the same ids, what has no ack yet. */
export function reconnectSocket(): void {
  window.require('WAWebSocketModel').Socket.reconnect();
}

export function logOut(): Promise<void> {
  return window.require('WAWebSocketModel').Socket.logout();
}
