import { Emitter } from './events.js';

/** What the dialogs say. The button of "terms" does nothing: somebody has to agree to them elsewhere. */
const DIALOGS = {
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
export class Dialog extends Emitter {
  #name = null;
  #element;

  /** Shows a dialog, or takes it away (null). One that was pressed away stays away as long as nothing else is asked for. */
  show(name) {
    if (name === this.#name) return;
    this.#name = name;
    this.#close();
    if (name !== null) this.#open(DIALOGS[name]);
  }

  /** Resolves once no dialog is open. */
  async whenClosed() {
    while (this.#element) await new Promise((resolve) => this.once('close', resolve));
  }

  #open({ title, text, button, closes }) {
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

  #close() {
    this.#element?.remove();
    this.#element = undefined;
    this.trigger('close');
  }
}
