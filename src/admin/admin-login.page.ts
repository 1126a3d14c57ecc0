/** What the page may load and who may show it in a frame: nothing and nobody. */
export const loginPageHeaders = {
  'Content-Type': 'text/html; charset=utf-8',
  'Content-Security-Policy':
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
  'Cache-Control': 'no-store',
};

/** The form that asks for the admin key. @param error a sentence of ours, shown above the form */
export function loginPage(error = ''): string {
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
  <label for="key">Admin key (ADMIN_API_KEY in .env)</label>
  <input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
  <button>Log in</button>
</form>
</html>
`;
}
