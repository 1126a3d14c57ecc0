/** The codes of Node.js for a certificate of an unknown CA, of another host, or of another time. */
const certificateCodes = /^(SELF_SIGNED_CERT|DEPTH_ZERO_SELF_SIGNED_CERT|UNABLE_TO_|CERT_|ERR_TLS_CERT_)/;
const fileCodes = /^(ENOENT|EACCES|EISDIR)$/;

/** Why a data store cannot be connected to. If TLS is the reason, the message names the cure. */
export function connectionError(error: Error, setting: 'DATABASE_URL' | 'REDIS_URL'): Error {
  const { code = '' } = error as NodeJS.ErrnoException;
  const file = setting === 'DATABASE_URL' ? '?sslmode=verify-full&sslrootcert=FILE' : 'REDIS_CA_FILE';
  if (certificateCodes.test(code))
    return new Error(
      `The certificate at ${setting} cannot be trusted (${error.message}). Name a file with the certificate of its CA (${file}), and use the host name of the certificate.`,
      { cause: error },
    );
  if (fileCodes.test(code))
    return new Error(`The file of ${file} cannot be read (${error.message}). Correct its path.`, {
      cause: error,
    });
  return error;
}
