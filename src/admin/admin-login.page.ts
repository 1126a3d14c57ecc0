/** The pages that a browser may open after its login. The first is the default. A login never redirects to another page. */
const pages = ['/admin/queues', '/docs', '/metrics', '/admin'];

/** The page that a browser opens after its login. @param wanted the requested page, which is untrusted input */
export function pageAfterLogin(wanted: unknown): string {
  return pages.find((page) => page === wanted) ?? pages[0]!;
}

/** The login page for a browser that asked for one of our pages without a login. @param wanted the requested URL */
export function loginUrlFor(wanted: string): string {
  const path = wanted.split('?', 1)[0]!;
  const page = pages.find((page) => path === page || path.startsWith(`${page}/`));
  return page === undefined || page === pages[0]
    ? '/admin/login'
    : `/admin/login?next=${encodeURIComponent(page)}`;
}

/** The page may load nothing, and no other page may show it in a frame. */
export const loginPageHeaders = {
  'Content-Type': 'text/html; charset=utf-8',
  'Content-Security-Policy':
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  'Cache-Control': 'no-store',
};

/** The form that asks for the admin key. @param next one of our pages @param error a trusted text, shown above the form */
export function loginPage(next: string, error = ''): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Flotilla: log in</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; display: grid; place-items: center; min-height: 90vh; margin: 0 1rem }
  form { display: grid; gap: .75rem; width: min(22rem, 100%) }
  input, button { font: inherit; padding: .5rem }
  .error { color: #b00020 }
  @media (prefers-color-scheme: dark) { body { background: #16191d; color: #e6e6e6 } .error { color: #ff8a80 } }
</style>
<form method="post" action="/admin/login">
  <h1>Flotilla</h1>
  ${error ? `<p class="error" role="alert">${error}</p>` : ''}
  <input name="next" type="hidden" value="${next}">
  <label for="key">Admin key (ADMIN_API_KEY in .env)</label>
  <input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
  <button>Log in</button>
</form>
</html>
`;
}
