/** The page of a version of WhatsApp Web. */
export interface WebPage {
  version: string;
  /** The index, which names the scripts of the version. */
  html: string;
}
