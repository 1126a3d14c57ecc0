import { Injectable } from '@nestjs/common';
import type { Content, MediaPointer } from '../journal/content.js';
import { Ledger } from '../journal/ledger.js';
import { Delivery, MAX_TEXT_LENGTH } from '../network/delivery.js';
import { FaultSettings } from '../network/fault-settings.js';
import { MediaStore } from '../network/media.js';
import { fromWhatsAppType } from '../network/whatsapp-types.js';
import { SandboxLogger } from '../options.js';
import type { BrowserConnection } from './browser-connection.js';
import { BrowserCounters } from './browser-counters.js';
import type { SendFrame } from './frames.js';
import { InFlight } from './in-flight.js';

/** Accepts or refuses the messages that pages send, with the faults that apply to them. */
@Injectable()
export class Submissions {
  constructor(
    private readonly delivery: Delivery,
    private readonly ledger: Ledger,
    private readonly media: MediaStore,
    private readonly faults: FaultSettings,
    private readonly inFlight: InFlight,
    private readonly counters: BrowserCounters,
    private readonly logger: SandboxLogger,
  ) {}

  /** Handles a message from a linked browser. */
  async submit(connection: BrowserConnection, frame: SendFrame): Promise<void> {
    const { credential } = connection;
    if (!credential) return;
    const { id, to, type, text, content = {} } = frame;
    const { phone } = credential;
    const faults = this.faults.of(phone);
    // A repetition of an accepted message gets its ack again and is never refused; its sender may already have the ack.
    const isRepeated = this.ledger.has({ from: phone, to, whatsappId: id });
    if (!isRepeated) this.inFlight.begin(phone, id);
    const isUnlucky = !isRepeated && happens(faults.refuseRate);
    if (isUnlucky || !this.delivery.maySend(phone, to) || text.length > MAX_TEXT_LENGTH) {
      this.refuse(connection, phone, id);
      return;
    }
    const isGivenUp = happens(faults.sendFailRate);
    // Before or after the message is accepted: the page cannot know which.
    if (isGivenUp && Math.random() < 0.5) {
      this.inFlight.end(phone, id);
      connection.send({ t: 'failed', id });
      return;
    }
    const isCut = happens(faults.disconnectRate);
    // Cut before or after the message is accepted: the sender cannot know which.
    if (isCut && Math.random() < 0.5) {
      connection.terminate();
      return;
    }
    const media = content.media && (await this.withHash(content.media));
    if (media === null) {
      this.refuse(connection, phone, id);
      return;
    }
    const accepted = this.delivery.accept(
      { from: phone, to, whatsappId: id, type: fromWhatsAppType(type), text, ...content, media },
      credential.id,
    );
    if (isGivenUp) connection.send({ t: 'failed', id });
    if (isCut) connection.terminate();
    const { duplicate } = await accepted;
    if (!duplicate && happens(faults.reloadAfterSendRate)) {
      this.counters.reloads += 1;
      connection.reloadPage();
    }
  }

  private refuse(connection: BrowserConnection, phone: string, id: string): void {
    this.inFlight.end(phone, id);
    connection.send({ t: 'refused', id });
  }

  /** The media of a message with the hash of its plain bytes; null when the bytes do not match the message. */
  private async withHash(media: MediaPointer): Promise<Content['media'] | null> {
    try {
      return { ...media, sha256: await this.media.sha256Of(media) };
    } catch (error) {
      this.logger.warn({ err: error }, 'a message was refused: its media cannot be read');
      return null;
    }
  }
}

/** Draws whether a fault with this rate happens now. */
function happens(rate: number): boolean {
  return rate > 0 && Math.random() < rate;
}
