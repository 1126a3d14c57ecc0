import type { Dialog as DialogName } from '../wire/frames.js';
import { Emitter } from './events.js';

interface Texts {
  title: string;
  text: string;
  button: string;
  closes: boolean;
}

/** The texts of the dialogs. The button of "terms" does nothing: a person has to agree to them on the phone. */
const DIALOGS: Record<DialogName, Texts> = {
  whats_new: {
    title: "What's new on WhatsApp Web",
    text: 'Your messages load faster now, and chats can be put into lists.',
    button: 'Continue',
    closes: true,
  },
  terms: {
    title: 'WhatsApp is updating its terms',
    text: 'Open WhatsApp on your phone to review and accept the new terms.',
    button: 'OK',
    closes: false,
  },
};

/** The modal dialog over the page, if any. */
export class Dialog extends Emitter<{ close: [] }> {
  #name: DialogName | null = null;
  #element: HTMLElement | undefined;

  /** Shows a dialog, or removes it (null). A dialog that a person closed stays closed until another one is asked for. */
  show(name: DialogName | null): void {
    if (name === this.#name) return;
    this.#name = name;
    this.#close();
    if (name !== null) this.#open(DIALOGS[name]);
  }

  /** Resolves once no dialog is open. */
  async whenClosed(): Promise<void> {
    while (this.#element) await new Promise<void>((resolve) => this.once('close', resolve));
  }

  #open({ title, text, button, closes }: Texts): void {
    const element = document.createElement('div');
    element.setAttribute('role', 'dialog');
    element.dataset.animateModalPopup = 'true';
    const heading = document.createElement('h1');
    heading.textContent = title;
    const body = document.createElement('div');
    body.textContent = text;
    const press = document.createElement('button');
    press.textContent = button;
    if (closes) press.addEventListener('click', () => this.#close());
    element.append(heading, body, press);
    document.body.append(element);
    this.#element = element;
  }

  #close(): void {
    this.#element?.remove();
    this.#element = undefined;
    this.trigger('close');
  }
}
