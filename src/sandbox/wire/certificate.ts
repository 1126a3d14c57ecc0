import { createHash, X509Certificate } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { generate } from 'selfsigned';

/** The sandbox's TLS identity, both in PEM. */
export interface SandboxCertificate {
  key: string;
  cert: string;
}

const YEARS = 10;

/** Reads the certificate for web.whatsapp.com in `dir`, or makes one. Its key never leaves that directory. */
export async function loadCertificate(dir: string): Promise<SandboxCertificate> {
  const path = join(dir, 'certificate.json');
  const kept = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (kept !== undefined) return JSON.parse(kept) as SandboxCertificate;

  const notAfterDate = new Date();
  notAfterDate.setFullYear(notAfterDate.getFullYear() + YEARS);
  const pems = await generate([{ name: 'commonName', value: 'web.whatsapp.com' }], {
    keyType: 'ec',
    curve: 'P-256',
    algorithm: 'sha256',
    notAfterDate,
    extensions: [{ name: 'subjectAltName', altNames: [{ type: 2, value: 'web.whatsapp.com' }] }],
  });
  const certificate = { key: pems.private, cert: pems.cert };
  await mkdir(dir, { recursive: true });
  // Renamed when it is complete, so that a killed process leaves no half certificate.
  await writeFile(`${path}.new`, JSON.stringify(certificate), { mode: 0o600 });
  await rename(`${path}.new`, path);
  return certificate;
}

/** The value for Chromium's `--ignore-certificate-errors-spki-list`: base64 of SHA-256 of the public key. */
export async function certificateSpki(dir: string): Promise<string> {
  return spkiOf(await loadCertificate(dir));
}

/** The same for a certificate that is already loaded. */
export function spkiOf({ cert }: SandboxCertificate): string {
  const spki = new X509Certificate(cert).publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(spki).digest('base64');
}
