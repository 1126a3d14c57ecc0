import type { CDPSession, Page } from 'puppeteer';
import type { PageEvent } from './in-page/page-functions.js';

/**
 * The short way to a page and back, for what every message needs. Puppeteer's own `evaluate` and exposed functions do the
 * same with more messages each.
 */
export class PageBridge {
  private constructor(private readonly devtools: CDPSession) {}

  /** Lets the page tell its events, one way: unlike an exposed function a binding waits for no answer. */
  static async open(page: Page, onEvent: (event: PageEvent) => void): Promise<PageBridge> {
    const devtools = await page.createCDPSession();
    devtools.on('Runtime.bindingCalled', ({ name, payload }) => {
      if (name !== 'flotillaEmit') return;
      for (const event of JSON.parse(payload) as PageEvent[]) onEvent(event);
    });
    await devtools.send('Runtime.enable');
    await devtools.send('Runtime.addBinding', { name: 'flotillaEmit' });
    return new PageBridge(devtools);
  }

  /**
   * Runs one of the functions of page-functions.ts in the page: one message there, and one back when it has ended.
   * @throws what the function threw, or when the page went away meanwhile
   */
  async call<Argument, Answer>(
    pageFunction: (argument: Argument) => Promise<Answer>,
    argument: Argument,
  ): Promise<Answer> {
    const { result, exceptionDetails } = await this.devtools.send('Runtime.evaluate', {
      expression: `(${pageFunction.toString()})(${JSON.stringify(argument)})`,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value as Answer;
  }

  /**
   * Gives the page a file of this machine, which it can read as if a person had chosen it: no byte of it goes through here.
   * @param expectFile runs in the page, and returns the `<input type="file">` that takes it
   * @returns whether the page took it
   */
  async giveFile(expectFile: (name: string) => unknown, name: string, path: string): Promise<boolean> {
    const { result, exceptionDetails } = await this.devtools.send('Runtime.evaluate', {
      expression: `(${expectFile.toString()})(${JSON.stringify(name)})`,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    const { objectId } = result;
    if (objectId === undefined) return false;
    await this.devtools.send('DOM.setFileInputFiles', { objectId, files: [path] });
    await this.devtools.send('Runtime.releaseObject', { objectId });
    return true;
  }
}
