/** The modules that whatsapp-web.js names and the sandbox does not have, with the reason. */
export const leftOutModules: Readonly<Record<string, string>> = {
  WAWebBizOrderBridge: 'orders in catalogues of business accounts',
  WAWebBizProductCatalogBridge: 'catalogues of business accounts',
  WAWebNoteAction: 'notes of business accounts: WAWebBizGatingUtils says that they are off',
  WAWebBotMessageSecret: 'Meta AI',
  WAWebBotProfileCollection: 'Meta AI',
  WAWebNewsletterDirectorySearchAction: 'the public directory of channels',
  WAWebCountriesNativeCountryNames: 'the public directory of channels',
  WAWebL10N: 'the public directory of channels',
  WAWebSendNonMessageDataRequest:
    'history from the phone: no chat has `endOfHistoryTransferType`, so that nobody asks for it',
};
