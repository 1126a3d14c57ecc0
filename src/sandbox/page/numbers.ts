/** One and two digits that are a whole calling code. All other codes have three digits. */
const SHORT_CODE = /^(?:1|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|7|8[1246]|9[0-58])/;

/** How WhatsApp writes the numbers of some countries: the groups of digits, by calling code. Other numbers stay in one piece. */
const PATTERNS: Record<string, [digits: RegExp, written: string][]> = {
  '1': [[/^(\d{3})(\d{3})(\d{4})$/, '($1) $2-$3']],
  '44': [[/^(\d{4})(\d{6})$/, '$1 $2']],
  '52': [[/^1?(\d{2,3})(\d{3,4})(\d{4})$/, '$1 $2 $3']],
  '55': [[/^(\d{2})(\d{4,5})(\d{4})$/, '$1 $2-$3']],
  '62': [[/^(\d{3})(\d{3,4})(\d{3,5})$/, '$1-$2-$3']],
};

/** The calling code at the beginning of a number. */
export function findCC(digits: string): string {
  return SHORT_CODE.exec(digits)?.[0] ?? digits.slice(0, 3);
}

/** A number as a person reads it, for example +1 (809) 220-1111. It may be given as an address. */
export function formattedPhoneNumber(address: unknown): string {
  const digits = String(address).split('@')[0]!;
  const code = findCC(digits);
  const rest = digits.slice(code.length);
  const pattern = PATTERNS[code]?.find(([shape]) => shape.test(rest));
  return `+${code} ${pattern ? rest.replace(...pattern) : rest}`;
}
