import { randomBytes, randomInt } from 'node:crypto';
import { BadRequestException, ConflictException, Injectable, NotFoundException } from '@nestjs/common';
import { digitsOf } from '../addresses.js';
import { Outbox } from '../journal/outbox.js';
import type { BrowserEvent } from '../network/events.js';
import { FaultSettings } from '../network/fault-settings.js';
import { type Credential, type Phone, PhoneRegistry } from '../network/phones.js';
import type { BrowserConnection } from './browser-connection.js';
import type { BrowserKeys } from './frames.js';
import { OnlineBrowsers } from './online-browsers.js';
import { proofOf } from './proof.js';

interface Registration extends BrowserKeys {
  connection: BrowserConnection;
  ref: string;
  /** How many QR codes the browser may still show on this connection. */
  refsLeft: number;
  rotation: NodeJS.Timeout;
  code?: { value: string; phone: string; secret: string; expiresAt: number };
}

const CODE_ALPHABET = '123456789ABCDEFGHJKLMNPQRSTVWXYZ';
const CODE_LENGTH = 8;
const CODE_LIFETIME_MS = 180_000;
const STORE_LIMIT_MS = 10_000;
const QR_CODES_PER_CONNECTION = 6;

/** Links browsers to phones, by QR code or by pairing code, and unlinks them. */
@Injectable()
export class Linking {
  private readonly waiting = new Map<BrowserConnection, Registration>();
  private readonly byRef = new Map<string, Registration>();
  private readonly byCode = new Map<string, Registration>();

  constructor(
    private readonly phones: PhoneRegistry,
    private readonly outbox: Outbox<BrowserEvent>,
    private readonly faults: FaultSettings,
    private readonly browsers: OnlineBrowsers,
  ) {}

  /** Starts to give QR codes to a browser that is not linked. */
  register(connection: BrowserConnection, { noisePublicKey, identityPublicKey, device }: BrowserKeys): void {
    this.forget(connection);
    const registration: Registration = {
      noisePublicKey,
      identityPublicKey,
      device,
      connection,
      ref: '',
      refsLeft: QR_CODES_PER_CONNECTION,
      rotation: setTimeout(() => undefined, 0),
    };
    this.waiting.set(connection, registration);
    this.rotate(registration);
  }

  /** Makes a pairing code for the owner of `phone`. */
  requestCode(connection: BrowserConnection, phone: string, secret: string): string {
    const registration = this.waiting.get(connection);
    if (!registration) throw new ConflictException('This browser is already linked.');
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

  /** The owner of a phone scans a QR code. Resolves when the browser has stored its credential. */
  async scan(phone: Phone, qr: string): Promise<void> {
    const [ref, noise, identity, secret] = qr.split(',');
    if (!ref || !noise || !identity || !secret) {
      throw new BadRequestException(
        'This is not a WhatsApp QR code: send the whole text of the code as "qr".',
      );
    }
    const registration = this.byRef.get(ref);
    if (!registration) {
      throw new ConflictException('This QR code has expired or is already used: scan the current code.');
    }
    if (registration.noisePublicKey !== noise || registration.identityPublicKey !== identity) {
      throw new ConflictException(
        'This QR code does not belong to the browser that shows it: scan the current code.',
      );
    }
    await this.link(registration, phone, secret);
  }

  /** The owner of a phone enters a pairing code. Resolves when the browser has stored its credential. */
  async enterCode(phone: Phone, input: string): Promise<void> {
    const registration = this.byCode.get(input.replace(/[\s-]/g, '').toUpperCase());
    if (!registration?.code || registration.code.expiresAt < Date.now()) {
      throw new ConflictException(
        'This pairing code has expired or is already used: enter the current code.',
      );
    }
    if (registration.code.phone !== phone.phone) {
      throw new ConflictException(
        `This pairing code was requested for ${registration.code.phone}: enter it on that phone.`,
      );
    }
    await this.link(registration, phone, registration.code.secret);
  }

  /** Unlinks a browser: its page logs out, now or when it comes back. */
  async unlink(credential: Credential): Promise<void> {
    await this.phones.unlink(credential.id);
    this.outbox.drop(credential.id);
    this.browsers.unlinked(credential);
  }

  /**
   * Unlinks all browsers of a phone, as its owner does under "linked devices".
   * @returns how many browsers there were
   * @throws NotFoundException when there was none
   */
  async unlinkAll({ phone }: Phone): Promise<number> {
    const credentials = [...this.phones.credentialsOf(phone)];
    if (credentials.length === 0) {
      throw new NotFoundException(
        `No browser is linked to ${phone}: link one with POST /phones/${phone}/scan.`,
      );
    }
    await Promise.all(credentials.map((credential) => this.unlink(credential)));
    return credentials.length;
  }

  /** Forgets a browser that was waiting to be linked. */
  forget(connection: BrowserConnection): void {
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
    if (registration.refsLeft === 0) {
      registration.connection.send({ t: 'ref', ref: null });
      return;
    }
    registration.ref = `2@${randomBytes(48).toString('base64')}`;
    this.byRef.set(registration.ref, registration);
    const isFirst = registration.refsLeft === QR_CODES_PER_CONNECTION;
    registration.refsLeft -= 1;
    const { qrLifetimeMs } = this.faults.of(undefined);
    registration.rotation = setTimeout(
      () => this.rotate(registration),
      isFirst ? qrLifetimeMs * 3 : qrLifetimeMs,
    );
    registration.connection.send({ t: 'ref', ref: registration.ref });
  }

  private async link(registration: Registration, phone: Phone, secret: string): Promise<void> {
    const { connection, noisePublicKey, device } = registration;
    this.forget(connection);
    // Saved first, so that every credential that a browser may have stored is known here.
    const credential = await this.phones.link({
      phone: phone.phone,
      secret,
      noisePublicKey,
      device,
    });
    const proof = proofOf(secret, `${credential.id}:${phone.phone}`);
    const limit = AbortSignal.timeout(STORE_LIMIT_MS);
    if (!(await connection.giveCredential(credential, phone.name, proof, limit))) {
      await this.phones.unlink(credential.id);
      throw new ConflictException(
        'The browser closed before it was linked: connect again and scan the new code.',
      );
    }
  }
}
