import { Inject, Injectable } from '@nestjs/common';
import { request } from 'undici';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import { CallSigner, sandboxAudience } from '../platform/http/signed-calls.js';

export class SandboxUnreachable extends Problem {
  constructor(url: string) {
    super(503, 'sandbox.unreachable', `The sandbox at ${url} does not answer; see "./flotilla ctl status".`);
  }
}

/** What it was asked makes no sense there now. */
export class SandboxRefused extends Problem {
  constructor(detail: string) {
    super(409, 'sandbox.refused', detail);
  }
}

export class SandboxBroken extends Problem {
  constructor(detail: string) {
    super(502, 'sandbox.broken', `The sandbox is broken; look at its log: ${detail}`);
  }
}

/** Calls the control API of the sandbox. */
@Injectable()
export class SandboxClient {
  private readonly signer: CallSigner;

  constructor(@Inject(CONFIG) private readonly config: Config) {
    this.signer = new CallSigner(config.internalApiKey);
  }

  /** Makes a simulated phone, or returns the one that has this number. */
  async phone(number?: string): Promise<string> {
    const { phone } = await this.call<{ phone: string }>(
      'POST',
      '/phones',
      number === undefined ? {} : { phone: number },
    );
    return phone;
  }

  /** Lets a phone scan a QR code. */
  async scan(phone: string, qr: string): Promise<void> {
    await this.call('POST', `/phones/${phone}/scan`, { qr });
  }

  /** The hash by which a browser accepts the sandbox's certificate, and where its TLS listens. */
  async certificate(): Promise<{ spki: string; port: number }> {
    return this.call('GET', '/certificate');
  }

  private async call<Answer>(method: 'GET' | 'POST', path: string, body?: unknown): Promise<Answer> {
    const { controlUrl } = this.config.sandbox;
    const text = body === undefined ? undefined : JSON.stringify(body);
    const response = await request(`${controlUrl}${path}`, {
      method,
      headers: {
        authorization: this.signer.sign({ method, audience: sandboxAudience, path }, text ?? ''),
        'content-type': 'application/json',
      },
      body: text,
      headersTimeout: 10_000,
      bodyTimeout: 10_000,
    }).catch(() => {
      throw new SandboxUnreachable(controlUrl);
    });
    const answer = (await response.body.json().catch(() => ({}))) as { detail?: string; message?: string };
    if (response.statusCode >= 400) {
      const detail = answer.detail ?? answer.message ?? 'The sandbox refused this.';
      // 401: it does not know the keys of this API, which is nothing that the caller could change.
      const isBroken = response.statusCode >= 500 || response.statusCode === 401;
      throw isBroken ? new SandboxBroken(detail) : new SandboxRefused(detail);
    }
    return answer as Answer;
  }
}
