import { X509Certificate } from 'node:crypto';

export const maxCaLength = 65_536;
const maxCertificates = 20;
const block = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;

/** The certificates of a PEM text. */
function certificatesOf(pem: string): string[] {
  return pem.match(block) ?? [];
}

/** What is wrong with a user's certificates; null if nothing is. The message never has the text: it may be a private key. */
export function caFault(pem: unknown): string | null {
  if (typeof pem !== 'string' || pem.length > maxCaLength)
    return `must be a text of at most ${maxCaLength} characters`;
  if (/PRIVATE KEY/.test(pem)) return 'has a private key. Keep it secret: only the certificate belongs here';
  const certificates = certificatesOf(pem);
  if (certificates.length === 0 || certificates.length > maxCertificates)
    return `must be 1 to ${maxCertificates} certificates in PEM: -----BEGIN CERTIFICATE-----, …`;
  for (const certificate of certificates) {
    try {
      new X509Certificate(certificate);
    } catch {
      return 'has a certificate that cannot be read';
    }
  }
  return null;
}

/** The certificates alone, without the texts around them. */
export function cleanCa(pem: string): string {
  return certificatesOf(pem)
    .map((certificate) => `${certificate}\n`)
    .join('');
}
