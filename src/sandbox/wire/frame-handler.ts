import { Injectable } from '@nestjs/common';
import type { RawData, WebSocket } from 'ws';
import { Outbox } from '../journal/outbox.js';
import type { BrowserEvent } from '../network/events.js';
import { FaultSettings } from '../network/fault-settings.js';
import { PhoneRegistry } from '../network/phones.js';
import { SandboxLogger } from '../options.js';
import { BrowserConnection } from './browser-connection.js';
import { BrowserCounters } from './browser-counters.js';
import type { AskFrame, BrowserFrame } from './frames.js';
import { InFlight } from './in-flight.js';
import { Linking } from './linking.js';
import { OnlineBrowsers } from './online-browsers.js';
import { isSameProof, proofOf } from './proof.js';
import { Questions } from './questions.js';
import { Submissions } from './submissions.js';

/** Reads the frames of every page and calls the class that handles each type of frame. */
@Injectable()
export class FrameHandler {
  constructor(
    private readonly phones: PhoneRegistry,
    private readonly outbox: Outbox<BrowserEvent>,
    private readonly faults: FaultSettings,
    private readonly browsers: OnlineBrowsers,
    private readonly linking: Linking,
    private readonly submissions: Submissions,
    private readonly questions: Questions,
    private readonly inFlight: InFlight,
    private readonly counters: BrowserCounters,
    private readonly logger: SandboxLogger,
  ) {}

  /** Serves a new WebSocket until it closes. */
  attach(socket: WebSocket): void {
    const connection = new BrowserConnection(socket, this.inFlight, this.logger);
    socket.on('message', (data) => this.receive(connection, data));
    socket.on('close', () => {
      connection.discard();
      this.linking.forget(connection);
      this.browsers.remove(connection);
    });
    // 'close' follows every error.
    socket.on('error', (error) => this.logger.debug({ err: error }, 'page socket error'));
  }

  private receive(connection: BrowserConnection, data: RawData): void {
    let frame: BrowserFrame;
    try {
      frame = JSON.parse(String(data)) as BrowserFrame;
    } catch {
      connection.close(1007);
      return;
    }
    if (connection.isSilent) {
      this.counters.unheard += 1;
      return;
    }
    this.handle(connection, frame).catch((error: unknown) => {
      // After any error the page connects again and repeats what was not confirmed.
      this.logger.error({ err: error }, 'a frame of a page failed');
      connection.terminate();
    });
  }

  private async handle(connection: BrowserConnection, frame: BrowserFrame): Promise<void> {
    const { credential } = connection;
    switch (frame.t) {
      case 'register':
        this.linking.register(connection, frame);
        return;
      case 'stored':
        connection.credentialStored(frame.id);
        return;
      case 'auth':
        return this.authenticate(connection, frame.id, frame.proof);
      case 'send':
        if (credential && this.phones.credential(credential.id))
          await this.submissions.submit(connection, frame);
        return;
      case 'chatstate':
        if (credential) this.counters.countChatState(frame.state);
        return;
      case 'got':
        if (credential) this.outbox.confirm(credential.id, frame.n);
        return;
      case 'ask':
        return this.answer(connection, frame);
      case 'unknown-module':
        this.counters.countUnknownModule(frame.name);
        return;
    }
  }

  private async authenticate(connection: BrowserConnection, id: string, proof: string): Promise<void> {
    const credential = this.phones.credential(id);
    if (!credential || !isSameProof(proofOf(credential.secret, connection.nonce), proof)) {
      this.browsers.refuse(connection, 'unlinked');
      return;
    }
    if (this.faults.of(credential.phone).offline) {
      connection.close(1013);
      return;
    }
    if (connection.credential) return;
    connection.credential = credential;
    await this.browsers.admit(credential, connection);
    // The phone may have unlinked it while an older connection was checked.
    if (!this.phones.credential(credential.id)) this.browsers.refuse(connection, 'unlinked');
  }

  private async answer(connection: BrowserConnection, frame: AskFrame): Promise<void> {
    // Otherwise the page would hear that its phone has unlinked it.
    if (frame.q === 'logout') this.browsers.remove(connection);
    try {
      const result = await this.questions.answer(connection, frame);
      connection.send({ t: 'answer', n: frame.n, result });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      connection.send({ t: 'answer', n: frame.n, error: message });
    }
    if (frame.q === 'logout') connection.close(1000);
  }
}
