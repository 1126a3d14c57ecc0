import type { Page } from 'puppeteer';
import { resultWithin } from './deadlines.js';
import { lookForDialog } from './in-page/page-state.js';

/** How long the page may take to answer a probe. */
export const probeLimitMs = 2_000;
/** The maximum length of a dialog's text in events and logs. */
export const dialogTextLength = 200;
/** Between two looks: at a start or while a dialog is open, while a person must answer, and in a ready session. */
const lookIntervalsMs = { starting: 1_000, unanswered: 5_000, ready: 30_000 };
const maxTries = 3;

export interface DialogWatchOptions {
  /** Receives the text of an open dialog that a person must answer, and null when the dialog is gone. */
  onOpen: (text: string | null) => void;
  onWarning: (message: string, error: unknown) => void;
}

/** Closes the dialogs of WhatsApp Web. After a few tries it reports that a person must answer. */
export class DialogWatch {
  /** The text of the dialog that a person must answer. */
  open: string | null = null;
  private nextLook = 0;
  private timesSeen = 0;

  constructor(private readonly options: DialogWatchOptions) {}

  /** Looks for a dialog, if the next look is due. */
  async lookAt(page: Page, isReady: boolean): Promise<void> {
    if (performance.now() < this.nextLook) return;
    const mayPress = this.timesSeen < maxTries;
    const dialog = await resultWithin(
      page.evaluate(lookForDialog, mayPress).catch(() => undefined),
      probeLimitMs,
    );
    this.nextLook = performance.now() + lookIntervalsMs[isReady ? 'ready' : 'starting'];
    // If the page does not answer or is loading, it is unknown whether there is a dialog.
    if (dialog === undefined) return;
    if (dialog === null) {
      if (this.open !== null) this.options.onOpen(null);
      this.open = null;
      this.timesSeen = 0;
      return;
    }
    const text = dialog.text.slice(0, dialogTextLength);
    this.nextLook = performance.now() + lookIntervalsMs[mayPress ? 'starting' : 'unanswered'];
    this.timesSeen += 1;
    if (dialog.pressed !== null)
      this.options.onWarning(`pressed "${dialog.pressed}" in a dialog of WhatsApp Web: ${text}`, null);
    if (mayPress || this.open !== null) return;
    this.open = text;
    this.options.onWarning(`a dialog of WhatsApp Web stays open: ${text}`, null);
    this.options.onOpen(text);
  }
}
