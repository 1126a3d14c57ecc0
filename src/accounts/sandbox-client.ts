import { Inject, Injectable } from '@nestjs/common';
import { request } from 'undici';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import { CallSigner, sandboxAudience } from '../platform/http/signed-calls.js';

/** The sandbox is switched off: production has no simulated phones unless the operator wants them. */
export class SandboxOff extends Problem {
  constructor() {
    super(
      409,
      'sandbox.off',
      'The sandbox is switched off on this server. Use an account with environment "live", or let the operator set SANDBOX=true.',
    );
  }
}

export class SandboxUnreachable extends Problem {
  constructor(cause?: unknown) {
    super(
      503,
      'sandbox.unreachable',
      'The sandbox does not answer. Try again, or let the operator check that it runs: ./flotilla ctl status.',
    );
    this.cause = cause;
  }
}

/** The phone belongs to another workspace. The answer does not say so. */
export class SandboxPhoneNotFound extends Problem {
  constructor(phone: string) {
    super(
      404,
      'sandbox.phone_not_found',
      `This workspace has no simulated phone ${phone}. Name another number, or leave "phone" out: the sandbox then makes a new phone.`,
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
  constructor(cause?: unknown) {
    super(502, 'sandbox.broken', 'The sandbox failed. The operator finds the reason in the logs.');
    this.cause = cause;
  }
}

/** Calls the control API of the sandbox. */
@Injectable()
export class SandboxClient {
  private readonly signer: CallSigner;

  constructor(@Inject(CONFIG) private readonly config: Config) {
    this.signer = new CallSigner(config.internalApiKey);
  }

  /** @throws SandboxOff */
  requireOn(): void {
    if (!this.config.sandbox.isOn) throw new SandboxOff();
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

  /**
   * Lets a phone scan a QR code. From then on the phone belongs to the workspace.
   * @throws SandboxPhoneNotFound if it belongs to another workspace
   */
  async scan(phone: string, qr: string, workspaceId: string): Promise<void> {
    await this.call('POST', `/phones/${phone}/scan`, { qr, tenant: workspaceId }, () => {
      throw new SandboxPhoneNotFound(phone);
    });
  }

  /** The hash with which a browser accepts the sandbox's certificate (SPKI), and the port of its TLS server. */
  async certificate(): Promise<{ spki: string; port: number }> {
    return this.call('GET', '/certificate');
  }

  /**
   * @param onNotFound throws the problem of an answer 404
   * @throws SandboxOff, SandboxUnreachable, SandboxRefused, SandboxBroken
   */
  private async call<Answer>(
    method: 'GET' | 'POST',
    path: string,
    body?: unknown,
    onNotFound?: () => never,
  ): Promise<Answer> {
    this.requireOn();
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
    }).catch((error: unknown) => {
      throw new SandboxUnreachable(error);
    });
    const answer = (await response.body.json().catch(() => ({}))) as { detail?: string; message?: string };
    const { statusCode } = response;
    if (statusCode < 400) return answer as Answer;
    const detail = answer.detail ?? answer.message ?? 'The sandbox refused this.';
    if (statusCode === 404) onNotFound?.();
    // 401 and 403: the sandbox rejects this API. The caller cannot change that.
    if (statusCode >= 500 || statusCode === 401 || statusCode === 403)
      throw new SandboxBroken(
        new Error(`The sandbox answered ${method} ${path} with ${statusCode}: ${detail}`),
      );
    throw new SandboxRefused(detail);
  }
}
