import { Inject, Injectable } from '@nestjs/common';
import { request } from 'undici';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import { CallSigner, sandboxAudience } from '../platform/http/signed-calls.js';

export class SandboxUnreachable extends Problem {
  constructor(url: string) {
    super(
      503,
      'sandbox.unreachable',
      `The sandbox at ${url} does not answer. Check that it runs: ./flotilla ctl status.`,
    );
  }
}

/** The sandbox refuses the call in its present state. */
export class SandboxRefused extends Problem {
  constructor(detail: string) {
    super(409, 'sandbox.refused', detail);
  }
}

export class SandboxBroken extends Problem {
  constructor(detail: string) {
    super(502, 'sandbox.broken', `The sandbox failed. Look at its log. Its answer was: ${detail}`);
  }
}

/** Calls the control API of the sandbox. */
@Injectable()
export class SandboxClient {
  private readonly signer: CallSigner;

  constructor(@Inject(CONFIG) private readonly config: Config) {
    this.signer = new CallSigner(config.internalApiKey);
  }

  /** Makes a simulated phone, or finds the phone with this number. @returns its number */
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

  /** The hash with which a browser accepts the sandbox's certificate (SPKI), and the port of its TLS server. */
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
      // 401: the sandbox rejects the key of this API. The caller cannot change that.
      const isBroken = response.statusCode >= 500 || response.statusCode === 401;
      throw isBroken ? new SandboxBroken(detail) : new SandboxRefused(detail);
    }
    return answer as Answer;
  }
}
