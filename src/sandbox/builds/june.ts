import type { Build } from './build.js';

/** Keys of messages have `_serialized`. */
export const june: Build = {
  name: 'june',
  version: '2.3000.1042386815',
  keyField: '_serialized',
  mediaHasId: false,
  cmdRefreshesQr: true,
  blocklistHasLids: false,
  hasContactToBlock: true,
  inviteIsOneObject: false,
};
