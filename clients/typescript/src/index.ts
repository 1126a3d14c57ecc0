import { FlotillaError } from './errors.js';
import { readEvents } from './sse.js';
import type {
  Answer,
  Arguments,
  CallOptions,
  FlotillaEvent,
  ListPath,
  Method,
  PathOf,
  Problem,
  Rest,
} from './types.js';

export { FlotillaError } from './errors.js';
export type * from './types.js';
export { verifyWebhook, WebhookRefused } from './webhooks.js';

export interface FlotillaOptions {
  /** Where Flotilla answers: `https://flotilla.example.com`. */
  url: string;
  /** An API key. Without one only the health of the API can be asked. */
  key?: string;
  /** For an admin key: the workspace that it acts in. */
  workspaceId?: string;
  /** How long one attempt may take; 30 s unless given. */
  timeoutMs?: number;
  /** How long a harmless call is repeated when nobody answers; 20 s unless given, 0 never repeats. */
  patienceMs?: number;
  /** Instead of the global one. */
  fetch?: typeof fetch;
}

interface Given extends CallOptions {
  idempotencyKey?: string;
  path?: Record<string, unknown>;
  query?: Record<string, unknown>;
  body?: unknown;
}

const pauseMs = 250;
/** The API says that it is still there more often than this. */
const silenceMs = 40_000;

/** Calls Flotilla's API. Errors are {@link FlotillaError}; types and paths are those of its OpenAPI document. */
export class Flotilla {
  readonly #options: FlotillaOptions;

  constructor(options: FlotillaOptions) {
    this.#options = { ...options, url: options.url.replace(/\/+$/, '') };
  }

  /** The same API under another key or in another workspace. */
  with(changes: Partial<FlotillaOptions>): Flotilla {
    return new Flotilla({ ...this.#options, ...changes });
  }

  get<P extends PathOf<'get'>>(path: P, ...[given]: Rest<Arguments<'get', P>>): Promise<Answer<'get', P>> {
    return this.#call('get', path, given as Given | undefined);
  }

  post<P extends PathOf<'post'>>(
    path: P,
    ...[given]: Rest<Arguments<'post', P>>
  ): Promise<Answer<'post', P>> {
    return this.#call('post', path, given as Given | undefined);
  }

  put<P extends PathOf<'put'>>(path: P, ...[given]: Rest<Arguments<'put', P>>): Promise<Answer<'put', P>> {
    return this.#call('put', path, given as Given | undefined);
  }

  patch<P extends PathOf<'patch'>>(
    path: P,
    ...[given]: Rest<Arguments<'patch', P>>
  ): Promise<Answer<'patch', P>> {
    return this.#call('patch', path, given as Given | undefined);
  }

  delete<P extends PathOf<'delete'>>(
    path: P,
    ...[given]: Rest<Arguments<'delete', P>>
  ): Promise<Answer<'delete', P>> {
    return this.#call('delete', path, given as Given | undefined);
  }

  /** Every item of a list, page by page, newest first. */
  async *all<P extends ListPath & PathOf<'get'>>(
    path: P,
    ...[given]: Rest<Arguments<'get', P>>
  ): AsyncGenerator<(Answer<'get', P> & { items: unknown[] })['items'][number], void, undefined> {
    let cursor: string | null = null;
    do {
      const { query, ...rest } = (given ?? {}) as Given;
      const page: { items: unknown[]; nextCursor: string | null } = await this.#call('get', path, {
        ...rest,
        query: { limit: 200, ...query, ...(cursor === null ? {} : { cursor }) },
      });
      yield* page.items as never[];
      cursor = page.nextCursor;
    } while (cursor !== null);
  }

  /**
   * What happens, as it happens, until `signal` aborts or the loop is left. A connection that breaks is made again, and
   * goes on after the last event, or where it began: none is missed, none comes twice.
   * @param options.types such as `['message.*', 'account.status']`; all unless given
   * @param options.after the `id` of the last event that you have seen; from now on unless given, `0-0` from the first
   * @throws FlotillaError when the API refuses: a key that is wrong, an id that it did not give out
   */
  async *events(
    options: { types?: string[]; after?: string; signal?: AbortSignal } = {},
  ): AsyncGenerator<FlotillaEvent, void, undefined> {
    let after = options.after;
    let failures = 0;
    let askedMs = 0;
    while (!options.signal?.aborted) {
      const ended = new AbortController();
      const stop = () => ended.abort();
      options.signal?.addEventListener('abort', stop, { once: true });
      let timer = setTimeout(stop, silenceMs);
      try {
        const response = await this.#send('get', '/events', {
          query: options.types ? { types: options.types.join(',') } : {},
          headers: {
            accept: 'text/event-stream',
            ...(after === undefined ? {} : { 'last-event-id': after }),
          },
          signal: ended.signal,
          timeoutMs: 0,
        });
        failures = 0;
        askedMs = 0;
        const heard = () => {
          clearTimeout(timer);
          timer = setTimeout(stop, silenceMs);
        };
        for await (const { place, event } of readEvents(response, heard)) {
          after = place;
          if (event) yield event;
        }
      } catch (error) {
        if (options.signal?.aborted) return;
        if (error instanceof FlotillaError && !error.isTemporary) throw error;
        failures += 1;
        askedMs = (error instanceof FlotillaError && error.retryAfterMs) || 0;
      } finally {
        clearTimeout(timer);
        options.signal?.removeEventListener('abort', stop);
        ended.abort();
      }
      await pause(Math.max(Math.min(pauseMs * 2 ** failures, 10_000), askedMs), options.signal);
    }
  }

  /** Harmless calls are repeated while nobody answers: a program of Flotilla's that was killed is back in seconds. */
  async #call<Answered>(method: Method, path: string, given: Given = {}): Promise<Answered> {
    const isHarmless = method === 'get' || given.idempotencyKey !== undefined;
    const deadline = Date.now() + (this.#options.patienceMs ?? 20_000);
    for (;;) {
      try {
        return (await readAnswer(await this.#send(method, path, given))) as Answered;
      } catch (error) {
        const mayPass = error instanceof FlotillaError && error.isTemporary;
        const waitMs = Math.max(pauseMs, (mayPass && error.retryAfterMs) || 0);
        if (!mayPass || !isHarmless || given.signal?.aborted || Date.now() + waitMs >= deadline) throw error;
        await pause(waitMs, given.signal);
      }
    }
  }

  async #send(method: Method, path: string, given: Given): Promise<Response> {
    const { url, key, workspaceId, timeoutMs = 30_000, fetch = globalThis.fetch } = this.#options;
    const isOutside = /^\/(health|metrics|api\/)/.test(path);
    const target = new URL(
      `${url}${isOutside ? '' : '/api/v1'}${path.replace(/\{(\w+)\}/g, (_, name: string) => segment(given.path?.[name]))}`,
    );
    const query = { ...(workspaceId && !isOutside ? { workspaceId } : {}), ...given.query };
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined && value !== null) target.searchParams.set(name, String(value));
    }
    const limitMs = given.timeoutMs ?? timeoutMs;
    const signals = [given.signal, limitMs > 0 ? AbortSignal.timeout(limitMs) : undefined];
    // Its boundary is fetch's to say.
    const isForm = given.body instanceof FormData;
    let response: Response;
    try {
      response = await fetch(target, {
        method: method.toUpperCase(),
        signal: AbortSignal.any(signals.filter((signal) => signal !== undefined)),
        headers: {
          ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
          ...(given.body === undefined || isForm ? {} : { 'content-type': 'application/json' }),
          ...(given.idempotencyKey === undefined ? {} : { 'idempotency-key': given.idempotencyKey }),
          ...given.headers,
        },
        body:
          given.body === undefined ? null : isForm ? (given.body as FormData) : JSON.stringify(given.body),
      });
    } catch (cause) {
      given.signal?.throwIfAborted();
      const reason = (cause as { cause?: { code?: string } }).cause?.code ?? String(cause);
      const detail = `${url} does not answer (${reason}).`;
      throw new FlotillaError({ status: 0, code: 'client.unreachable', detail }, { cause });
    }
    if (!response.ok) throw await problemOf(response);
    return response;
  }
}

/** A part of a path that was given; one that is empty or made of dots would name something else. */
function segment(value: unknown): string {
  const text = String(value ?? '');
  if (text === '' || text === '.' || text === '..')
    throw new TypeError(`"${text}" cannot be a part of a path`);
  return encodeURIComponent(text);
}

async function readAnswer(response: Response): Promise<unknown> {
  if (response.status === 204) return undefined;
  const type = response.headers.get('content-type') ?? '';
  try {
    if (type.includes('json')) return await response.json();
    return type.startsWith('text/') ? await response.text() : await response.blob();
  } catch (cause) {
    const detail = `The answer to ${response.url} ended early or is no JSON.`;
    throw new FlotillaError({ status: 0, code: 'client.bad_answer', detail }, { cause });
  }
}

async function problemOf(response: Response): Promise<FlotillaError> {
  const problem = (await response.json().catch(() => ({}))) as Partial<Problem>;
  const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
  return new FlotillaError(
    {
      status: response.status,
      code: problem.code ?? 'client.bad_answer',
      detail: problem.detail ?? `${response.status} ${response.statusText}`,
      errors: problem.errors,
      requestId: problem.requestId ?? response.headers.get('x-request-id') ?? undefined,
    },
    Number.isFinite(seconds) ? { retryAfterMs: seconds * 1_000 } : {},
  );
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done, { once: true });
    if (signal?.aborted) done();
  });
}
