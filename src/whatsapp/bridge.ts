import type { CDPSession, Page } from 'puppeteer';
import type { PageEvent } from './in-page/page-functions.js';

/**
 * A fast way to call a page and to receive its events, for the calls that every message needs. Puppeteer's `evaluate` and
 * exposed functions do the same with more DevTools messages per call.
 */
export class PageBridge {
  private constructor(private readonly devtools: CDPSession) {}

  /** Receives the events of the page. Unlike an exposed function, a binding does not wait for an answer. */
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
   * Runs a function of `in-page` in the page, with one DevTools message in each direction.
   * @throws the error of the function, or an error if the page is lost during the call
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
   * Gives the page a file of this machine, as if a person had chosen it. The bytes do not pass through this process.
   * @param expectFile runs in the page, and returns the `<input type="file">` for the file
   * @returns whether the page took the file
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
