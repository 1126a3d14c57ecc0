import type { Page } from 'puppeteer';
import { within } from './deadlines.js';
import { lookForDialog } from './in-page/page-state.js';

/** How long the page is waited for each time that it is looked at. */
export const probeLimitMs = 2_000;
/** How much of a dialog is told. */
export const dialogTextLength = 200;
/** Between two looks: while it starts or one is open, while a person has to answer one, and while it is ready. */
const lookMs = { starting: 1_000, unanswered: 5_000, ready: 30_000 };
const tries = 3;

export interface DialogWatchOptions {
  /** A dialog stays open that a person has to answer: its text. Null when it is gone. */
  onOpen: (text: string | null) => void;
  onWarning: (message: string, error: unknown) => void;
}

/** Presses away the dialogs that WhatsApp Web shows, each a few times, and then tells that a person has to answer. */
export class DialogWatch {
  /** The text of the dialog that stays open. */
  open: string | null = null;
  private nextLook = 0;
  private seen = 0;

  constructor(private readonly options: DialogWatchOptions) {}

  /** Looks when it is time to. */
  async lookAt(page: Page, isReady: boolean): Promise<void> {
    if (performance.now() < this.nextLook) return;
    const mayPress = this.seen < tries;
    const dialog = await within(
      page.evaluate(lookForDialog, mayPress).catch(() => undefined),
      probeLimitMs,
    );
    this.nextLook = performance.now() + lookMs[isReady ? 'ready' : 'starting'];
    // A page that does not answer, or is just being loaded, shows neither a dialog nor none.
    if (dialog === undefined) return;
    if (dialog === null) {
      if (this.open !== null) this.options.onOpen(null);
      this.open = null;
      this.seen = 0;
      return;
    }
    const text = dialog.text.slice(0, dialogTextLength);
    this.nextLook = performance.now() + lookMs[mayPress ? 'starting' : 'unanswered'];
    this.seen += 1;
    if (dialog.pressed !== null)
      this.options.onWarning(`pressed "${dialog.pressed}" in a dialog of WhatsApp Web: ${text}`, null);
    if (mayPress || this.open !== null) return;
    this.open = text;
    this.options.onWarning(`a dialog of WhatsApp Web stays open: ${text}`, null);
    this.options.onOpen(text);
  }
}
