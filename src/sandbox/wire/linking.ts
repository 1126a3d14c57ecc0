import { createHmac, randomBytes, randomInt } from 'node:crypto';
import { BadRequestException, ConflictException } from '@nestjs/common';
import type { SandboxConnection } from './browser-connection.js';
import type { FaultBoard } from '../network/faults.js';
import { digitsOf, type Phone, type PhoneBook } from '../network/phones.js';

/** The public half of what a browser made up for itself. */
export interface CompanionKeys {
  noisePublicKey: string;
  identityPublicKey: string;
  device: string;
}

interface Registration extends CompanionKeys {
  connection: SandboxConnection;
  ref: string;
  rotation: NodeJS.Timeout;
  code?: { value: string; phone: string; secret: string; expiresAt: number };
}

const CODE_ALPHABET = '123456789ABCDEFGHJKLMNPQRSTVWXYZ';
const CODE_LENGTH = 8;
const CODE_LIFETIME_MS = 180_000;
const STORE_LIMIT_MS = 10_000;

/** Browsers that wait to be linked, and their linking by QR code or by pairing code. */
export class Pairing {
  private readonly waiting = new Map<SandboxConnection, Registration>();
  private readonly byRef = new Map<string, Registration>();
  private readonly byCode = new Map<string, Registration>();

  constructor(
    private readonly phones: PhoneBook,
    private readonly faults: FaultBoard,
  ) {}

  /** Starts to show QR codes to a browser that is not linked. */
  register(connection: SandboxConnection, keys: CompanionKeys): void {
    this.forget(connection);
    const registration: Registration = {
      ...keys,
      connection,
      ref: '',
      rotation: setTimeout(() => undefined, 0),
    };
    this.waiting.set(connection, registration);
    this.rotate(registration);
  }

  /** Shows a fresh QR code now. */
  refresh(connection: SandboxConnection): void {
    const registration = this.waiting.get(connection);
    if (registration) this.rotate(registration);
  }

  /** A pairing code that the owner of `phone` can type in. */
  requestCode(connection: SandboxConnection, phone: string, secret: string): string {
    const registration = this.waiting.get(connection);
    if (!registration) throw new ConflictException('This browser is linked already.');
    if (registration.code) this.byCode.delete(registration.code.value);
    const value = Array.from(
      { length: CODE_LENGTH },
      () => CODE_ALPHABET[randomInt(CODE_ALPHABET.length)],
    ).join('');
    const expiresAt = Date.now() + CODE_LIFETIME_MS;
    registration.code = { value, phone: digitsOf(phone), secret, expiresAt };
    this.byCode.set(value, registration);
    return value;
  }

  /** A phone's owner scans a QR code. Resolves once the browser has stored its credential. */
  async scan(phone: Phone, qr: string): Promise<void> {
    const [ref, noise, identity, secret] = qr.split(',');
    if (!ref || !noise || !identity || !secret) {
      throw new BadRequestException(
        'This is not a WhatsApp QR code: send the whole text of the code as "qr".',
      );
    }
    const registration = this.byRef.get(ref);
    if (!registration) {
      throw new ConflictException(
        'This QR code has expired or was used already: scan the one that is shown now.',
      );
    }
    if (registration.noisePublicKey !== noise || registration.identityPublicKey !== identity) {
      throw new ConflictException(
        'This QR code does not belong to the browser that shows it: scan the one that is shown now.',
      );
    }
    await this.link(registration, phone, secret);
  }

  /** A phone's owner types a pairing code. Resolves once the browser has stored its credential. */
  async enterCode(phone: Phone, input: string): Promise<void> {
    const registration = this.byCode.get(input.replace(/[\s-]/g, '').toUpperCase());
    if (!registration?.code || registration.code.expiresAt < Date.now()) {
      throw new ConflictException(
        'This pairing code has expired or was used already: enter the one that is shown now.',
      );
    }
    if (registration.code.phone !== phone.phone) {
      throw new ConflictException(
        `This pairing code was requested for ${registration.code.phone}: enter it on that phone.`,
      );
    }
    await this.link(registration, phone, registration.code.secret);
  }

  /** Forgets a browser that closed or was linked. */
  forget(connection: SandboxConnection): void {
    const registration = this.waiting.get(connection);
    if (!registration) return;
    clearTimeout(registration.rotation);
    this.waiting.delete(connection);
    this.byRef.delete(registration.ref);
    if (registration.code) this.byCode.delete(registration.code.value);
  }

  private rotate(registration: Registration): void {
    clearTimeout(registration.rotation);
    this.byRef.delete(registration.ref);
    registration.ref = `2@${randomBytes(48).toString('base64')}`;
    this.byRef.set(registration.ref, registration);
    const { qrLifetimeMs } = this.faults.of(undefined);
    registration.rotation = setTimeout(() => this.rotate(registration), qrLifetimeMs);
    registration.connection.send({ t: 'ref', ref: registration.ref });
  }

  private async link(registration: Registration, phone: Phone, secret: string): Promise<void> {
    const { connection, noisePublicKey, device } = registration;
    this.forget(connection);
    // Written down first: whatever credential a browser may have stored is known here.
    const credential = await this.phones.link({
      phone: phone.phone,
      secret,
      noisePublicKey,
      device,
    });
    const proof = proofOf(secret, `${credential.id}:${phone.phone}`);
    if (!(await connection.pair(credential, proof, AbortSignal.timeout(STORE_LIMIT_MS)))) {
      await this.phones.unlink(credential.id);
      throw new ConflictException(
        'The browser went away before it was linked: connect again and scan the code it shows then.',
      );
    }
  }
}

/** Proves the knowledge of a secret that both sides have. */
export function proofOf(secret: string, text: string): string {
  return createHmac('sha256', Buffer.from(secret, 'base64')).update(text).digest('base64');
}
