import type { NextFunction, Request, Response } from 'express';
import helmet, { type HelmetOptions } from 'helmet';

/** What is answered is data: nothing of it is to be run, framed or kept. The pages among it say what they need. */
const dataOnly: HelmetOptions = {
  contentSecurityPolicy: {
    useDefaults: false,
    directives: {
      defaultSrc: ["'none'"],
      frameAncestors: ["'none'"],
      baseUri: ["'none'"],
      formAction: ["'none'"],
    },
  },
  strictTransportSecurity: false,
};
const overHttp = helmet(dataOnly);
// Without its subdomains: this is one host of somebody's domain.
const overTls = helmet({
  ...dataOnly,
  strictTransportSecurity: { maxAge: 31_536_000, includeSubDomains: false },
});

/** The headers that every answer has. */
export function securityHeaders(request: Request, response: Response, next: NextFunction): void {
  if (request.path.startsWith('/api/')) response.setHeader('Cache-Control', 'no-store');
  if (request.secure) overTls(request, response, next);
  else overHttp(request, response, next);
}

/** For pages that run only scripts of their own origin: Swagger UI, Bull Board. */
export function pageHeaders(_request: Request, response: Response, next: NextFunction): void {
  response.setHeader(
    'Content-Security-Policy',
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
  );
  response.setHeader('Cache-Control', 'no-store');
  next();
}
