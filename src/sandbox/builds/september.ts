import type { Build } from './build.js';

/** Media brings `__x_id` into its message (wwebjs#201921 to #201925). */
export const september: Build = {
  name: 'september',
  version: '2.3000.1047775310',
  keyField: '$1',
  mediaHasId: true,
  cmdRefreshesQr: false,
  blocklistHasLids: true,
  hasContactToBlock: false,
  inviteIsOneObject: true,
};
