import type { PageWindow } from './page-functions.js';

/*
 * The state of the WhatsApp Web page, and actions on the whole page. See page-functions.ts for the rules of such functions.
 */

/** The used members of an element of the page. */
interface PageElement {
  innerText: string;
  click(): void;
  getAttribute(name: string): string | null;
  getClientRects(): ArrayLike<unknown>;
  querySelectorAll(selector: string): Iterable<PageElement>;
}

declare const window: PageWindow;
declare const document: PageElement;

/** The two ids of the account itself; null if the page does not know them. */
export interface OwnIds {
  /** The digits of the number. */
  phone: string | null;
  lid: string | null;
}

export function readOwnIds(): OwnIds {
  const { getMaybeMePnUser, getMaybeMeLidUser } = window.require('WAWebUserPrefsMeUser');
  return { phone: getMaybeMePnUser()?.user ?? null, lid: getMaybeMeLidUser()?._serialized ?? null };
}

/** Whether `installFlotilla` has run since the page was loaded. */
export function hasFlotilla(): boolean {
  return window.flotilla !== undefined;
}

/** The state of the page's connection. */
export function connectionState(): { state: string; hasSynced: boolean } {
  const { Socket } = window.require('WAWebSocketModel');
  return { state: Socket.state, hasSynced: Socket.hasSynced === true };
}

/**
 * Looks for a dialog of WhatsApp Web, for example "what's new". Presses a button that closes the dialog, if that agrees to
 * nothing.
 * @returns the text of the dialog and the label of the pressed button; null if there is no dialog
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

  // "Use here" takes the account from another browser. To close that dialog gives the account up. A person must decide.
  const isConflict = find(/^use here$/i) !== undefined;
  const asksForMore =
    /\blog(ged)?[ -]?out\b|\bunlink|\bdelete|\bremove|\b(phone|your|new) number\b|\breset\b/i.test(text);
  const closeButton = find(/^(not now|maybe later|later|skip|dismiss|close)$/i);
  // These buttons agree to the text of the dialog.
  const agreeButton = asksForMore ? undefined : find(/^(continue|ok|okay|got it|done)$/i);
  const button = isConflict ? undefined : (agreeButton ?? closeButton);
  if (!mayPress || !button) return { text, pressed: null };
  button.click();
  return { text, pressed: labelOf(button) };
}

/** Tells the library that the page has synced: it waits for a change of `hasSynced`, which can happen before it listens. */
export function announceSynced(): void {
  window.onAppStateHasSyncedEvent?.();
}

/** Reconnects the page. WhatsApp Web then resends every message without an ack, under the same id. */
export function reconnectSocket(): void {
  window.require('WAWebSocketModel').Socket.reconnect();
}

export function logOut(): Promise<void> {
  return window.require('WAWebSocketModel').Socket.logout();
}
