/**
 * Parses JSON. JSON.parse returns `any`, which switches off every later check; here the caller has to say what it expects.
 *
 * @param {string} text
 * @returns {unknown}
 */
export const parseJson = (text) => JSON.parse(text);
