import type { NextFunction, Request, Response } from 'express';
import helmet, { type HelmetOptions } from 'helmet';

/** Answers are data: a browser must not run, frame or cache them. The few pages set their own headers. */
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
// Without subdomains: Flotilla is only one host of a domain.
const overTls = helmet({
  ...dataOnly,
  strictTransportSecurity: { maxAge: 31_536_000, includeSubDomains: false },
});

/** Sets the security headers of every answer. */
export function securityHeaders(request: Request, response: Response, next: NextFunction): void {
  if (request.path.startsWith('/api/')) response.setHeader('Cache-Control', 'no-store');
  if (request.secure) overTls(request, response, next);
  else overHttp(request, response, next);
}

/** Sets the headers of pages that run scripts of their own origin only: Swagger UI, Bull Board. */
export function pageHeaders(_request: Request, response: Response, next: NextFunction): void {
  response.setHeader(
    'Content-Security-Policy',
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
  );
  response.setHeader('Cache-Control', 'no-store');
  next();
}
