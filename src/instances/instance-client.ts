import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { Agent, request } from 'undici';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import { withoutTurn } from '../platform/http/fair-share.js';
import { CallSigner, refusedCodes } from '../platform/http/signed-calls.js';

/* What a tenant sees of an instance that cannot be called names no address and no reason: these stand in the log, as the cause. */

/** The instance could not be reached: it has certainly not begun the request. */
export class InstanceUnreachable extends Problem {
  constructor(url: string, reason: string) {
    super(
      503,
      'instance.unreachable',
      'The instance of the account does not answer. It may be restarting: try again.',
    );
    this.cause = new Error(`${url}: ${reason}`);
  }
}

/** The instance did not accept the signature of the call: it has done nothing. */
export class InstanceRefused extends Problem {
  constructor(url: string, detail: string) {
    super(
      503,
      'instance.refused',
      'The instance of the account refused the call, and nothing was done. The operator finds the reason in the log of the API.',
    );
    this.cause = new Error(`${url}: ${detail}`);
  }
}

/** The connection broke after the call was sent: whether the instance has acted is not known. */
export class InstanceAnswerLost extends Problem {
  constructor(url: string, reason: string) {
    super(
      504,
      'instance.answer_lost',
      'The connection to the instance of the account broke before its answer came. It may have acted: check the result before you try again.',
    );
    this.cause = new Error(`${url}: ${reason}`);
  }
}

/** Errors that happen before the request is sent. */
const neverSent = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** Calls the internal HTTP of an instance. */
@Injectable()
export class InstanceClient implements OnApplicationShutdown {
  private readonly agent = new Agent({ connections: 64, connectTimeout: 2_000, keepAliveTimeout: 30_000 });

  private readonly signer: CallSigner;

  constructor(@Inject(CONFIG) config: Config) {
    this.signer = new CallSigner(config.internalApiKey);
  }

  /**
   * @param timeoutMs how long the whole answer may take
   * @returns the parsed JSON body; undefined without a body
   * @throws InstanceUnreachable or InstanceRefused if the instance has done nothing, InstanceAnswerLost if that is not known,
   * or the Problem that the instance answered
   */
  async call<Answer>(
    url: string,
    method: 'GET' | 'POST',
    path: string,
    body?: unknown,
    timeoutMs = 15_000,
  ): Promise<Answer> {
    const answered = await withoutTurn(async () => {
      const { body: bytes, ...head } = await this.send(url, method, path, body, timeoutMs);
      const text = await bytes.text().catch((error: unknown) => {
        throw new InstanceAnswerLost(url, reasonOf(error));
      });
      return { ...head, text };
    });
    const answer: unknown = answered.text ? JSON.parse(answered.text) : undefined;
    if (answered.statusCode >= 400)
      throw asProblem(url, answered.statusCode, answer, answered.headers['retry-after']);
    return answer as Answer;
  }

  /** Like `call`, for an answer that is not JSON. */
  async download(url: string, path: string, timeoutMs = 15_000): Promise<Buffer> {
    const { statusCode, bytes } = await withoutTurn(async () => {
      const { statusCode, body } = await this.send(url, 'GET', path, undefined, timeoutMs);
      return { statusCode, bytes: Buffer.from(await body.arrayBuffer()) };
    });
    if (statusCode >= 400) throw asProblem(url, statusCode, JSON.parse(bytes.toString()));
    return bytes;
  }

  async onApplicationShutdown(): Promise<void> {
    await this.agent.close();
  }

  private async send(url: string, method: 'GET' | 'POST', path: string, body: unknown, timeoutMs: number) {
    const text = body === undefined ? undefined : JSON.stringify(body);
    try {
      return await request(`${url}${path}`, {
        method,
        dispatcher: this.agent,
        headers: {
          authorization: this.signer.sign({ method, audience: url, path }, text ?? ''),
          'content-type': 'application/json',
        },
        body: text,
        headersTimeout: timeoutMs,
        bodyTimeout: timeoutMs,
      });
    } catch (error) {
      const code = (error as { code?: string }).code ?? '';
      if (neverSent.has(code)) throw new InstanceUnreachable(url, code);
      throw new InstanceAnswerLost(url, reasonOf(error));
    }
  }
}

function reasonOf(error: unknown): string {
  return (error as { code?: string }).code ?? (error instanceof Error ? error.message : String(error));
}

function asProblem(url: string, status: number, answer: unknown, retryAfter?: string | string[]): Problem {
  const { code, detail } = (answer ?? {}) as { code?: string; detail?: string };
  if (code !== undefined && refusedCodes.has(code)) return new InstanceRefused(url, detail ?? code);
  const seconds = Number(retryAfter);
  return new Problem(
    status,
    code ?? 'instance.failed',
    detail ?? `The instance answered ${status}.`,
    undefined,
    Number.isInteger(seconds) ? seconds : undefined,
  );
}
