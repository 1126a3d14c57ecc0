import type { Build } from './build.js';

/** The text of a key moved to a minified field (wa-js#3484, wwebjs#201848). */
export const july: Build = {
  name: 'july',
  version: '2.3000.1043140922',
  keyField: '$1',
  mediaHasId: false,
  cmdRefreshesQr: false,
  blocklistHasLids: true,
  hasContactToBlock: true,
  inviteIsOneObject: false,
};
