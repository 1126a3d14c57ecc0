import { setTimeout as delay } from 'node:timers/promises';
import { Flotilla, FlotillaError, type FlotillaEvent } from '../clients/typescript/src/index.js';

/** What keeps the demo from going on; `message` says it to the user, with the cure where there is one. */
export class DemoFailed extends Error {
  override name = 'DemoFailed';
}

/** The other side answered, and said no. */
export class Refused extends DemoFailed {
  constructor(
    readonly status: number,
    readonly code: string,
    what: string,
    detail: string,
  ) {
    super(`${what} was refused: ${detail} (${status}${code ? ` ${code}` : ''})`);
  }
}

/** Nobody answered. */
export class Unreachable extends DemoFailed {}

export interface Call {
  method?: 'GET' | 'POST' | 'DELETE';
  body?: unknown;
  /** Makes asking twice the same as asking once, so that a call whose answer was lost is made again. */
  idempotencyKey?: string;
}

const answerMs = 15_000;
/** As long as a program may take to come back under supervisord. */
const patienceMs = 20_000;
const pauseMs = 250;

/** The REST API, or the sandbox's control API, as any program outside of Flotilla calls it. */
export class DemoClient {
  constructor(
    private readonly url: string,
    private readonly signal: AbortSignal,
    private readonly key?: string,
  ) {}

  /** The same API under another key. */
  as(key: string): DemoClient {
    return new DemoClient(this.url, this.signal, key);
  }

  /** One call without a second try. @throws Refused, Unreachable */
  async once<Answer>(path: string, call: Call = {}, timeoutMs = answerMs): Promise<Answer> {
    const response = await this.open(path, call, AbortSignal.timeout(timeoutMs));
    const text = await response.text().catch(() => {
      this.signal.throwIfAborted();
      throw new Unreachable(`${this.url}${path} did not finish its answer.`);
    });
    try {
      return (text ? JSON.parse(text) : undefined) as Answer;
    } catch {
      throw new Refused(response.status, '', `${call.method ?? 'GET'} ${path}`, 'the answer is no JSON');
    }
  }

  /**
   * A call that is made again when nobody answers, if that is harmless: a program that was killed is back in seconds.
   * @throws Refused, Unreachable
   */
  async call<Answer>(path: string, call: Call = {}): Promise<Answer> {
    const isHarmless = (call.method ?? 'GET') === 'GET' || call.idempotencyKey !== undefined;
    const deadline = Date.now() + patienceMs;
    for (;;) {
      try {
        return await this.once<Answer>(path, call);
      } catch (error) {
        const mayPass = error instanceof Unreachable || (error instanceof Refused && error.status >= 500);
        if (!isHarmless || !mayPass || Date.now() >= deadline) throw error;
        await delay(pauseMs, undefined, { signal: this.signal });
      }
    }
  }

  /** All items of a list, page by page, newest first. */
  async *items<Item>(path: string): AsyncGenerator<Item> {
    let cursor: string | null = null;
    do {
      const page: { items: Item[]; nextCursor: string | null } = await this.call(
        `${path}${path.includes('?') ? '&' : '?'}limit=200${cursor === null ? '' : `&cursor=${cursor}`}`,
      );
      yield* page.items;
      cursor = page.nextCursor;
    } while (cursor !== null);
  }

  /** The lines of an answer, however many there are. */
  async *lines(path: string): AsyncGenerator<string> {
    const response = await this.open(path, {}, AbortSignal.timeout(60_000));
    yield* split(response, '\n');
  }

  /**
   * Follows the events of these types from the very first on, until `until` aborts. What the API refuses ends it: who
   * listens asks when it hears nothing.
   */
  async follow(types: string[], until: AbortSignal, onEvent: (event: FlotillaEvent) => void): Promise<void> {
    const client = new Flotilla({ url: this.url.replace(/\/api\/v1$/, ''), key: this.key });
    try {
      for await (const event of client.events({ types, after: '0-0', signal: until })) onEvent(event);
    } catch (error) {
      if (!(error instanceof FlotillaError)) throw error;
    }
  }

  private async open(
    path: string,
    { method = 'GET', body, idempotencyKey }: Call,
    signal: AbortSignal,
  ): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(`${this.url}${path}`, {
        method,
        signal: AbortSignal.any([this.signal, signal]),
        headers: {
          ...(this.key === undefined ? {} : { authorization: `Bearer ${this.key}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...(idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey }),
        },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch (error) {
      this.signal.throwIfAborted();
      const reason = (error as { cause?: { code?: string } }).cause?.code ?? String(error);
      throw new Unreachable(`${this.url} does not answer (${reason}).`);
    }
    if (response.ok) return response;
    const { code, detail, message } = await problemOf(response);
    throw new Refused(
      response.status,
      code ?? '',
      `${method} ${path}`,
      detail ?? message ?? response.statusText,
    );
  }
}

async function problemOf(response: Response): Promise<{ code?: string; detail?: string; message?: string }> {
  try {
    return (await response.json()) as object;
  } catch {
    return {};
  }
}

/** The parts of an answer between `separator`s, as they arrive. */
async function* split(response: Response, separator: string): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of response.body ?? []) {
    rest += decoder.decode(chunk as Uint8Array, { stream: true });
    const parts = rest.split(separator);
    rest = parts.pop()!;
    yield* parts;
  }
  if (rest) yield rest;
}
