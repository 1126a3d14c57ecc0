import { Body, Controller, Delete, Get, HttpCode, Put, Query, StreamableFile } from '@nestjs/common';
import { given } from '../../platform/database/given.js';
import { Readable } from 'node:stream';
import { digitsOf } from '../addresses.js';
import type { Build, LoadedBuild } from '../builds/build.js';
import { builds, CurrentBuild } from '../builds/builds.js';
import { Ledger } from '../journal/ledger.js';
import { Outbox } from '../journal/outbox.js';
import type { BrowserEvent } from '../network/events.js';
import { FaultSettings, NO_FAULTS } from '../network/fault-settings.js';
import type { Faults } from '../network/faults.js';
import { MediaStore } from '../network/media.js';
import { PhoneRegistry } from '../network/phones.js';
import { BrowserCounters } from '../wire/browser-counters.js';
import { InFlight } from '../wire/in-flight.js';
import { OnlineBrowsers } from '../wire/online-browsers.js';
import { SandboxServer } from '../wire/server.js';
import { BuildDto, FaultsDto, LedgerQueryDto } from './network.dto.js';

/** The counters of the sandbox. */
export interface SandboxStats {
  phones: number;
  linked: number;
  online: number;
  accepted: number;
  duplicates: number;
  actions: number;
  /** How often a browser showed that it types, that it records, and that it stopped. */
  typing: number;
  recording: number;
  paused: number;
  /** Frames of browsers that the fault `silent` dropped. */
  unheard: number;
  /** How often the fault `reloadAfterSendRate` reloaded a page. */
  reloads: number;
  /** How often browsers asked whether a number is registered. */
  numberChecks: number;
  conflicts: number;
  /** The most messages of one sender that had no ack at the same time. */
  maxInFlight: number;
  offlineQueued: number;
  offlineDropped: number;
  unknownModules: Record<string, number>;
}

/** The simulated network as a whole: its ledger, its counters, its faults and its health. */
@Controller()
export class SandboxNetworkController {
  constructor(
    private readonly server: SandboxServer,
    private readonly phones: PhoneRegistry,
    private readonly ledger: Ledger,
    private readonly outbox: Outbox<BrowserEvent>,
    private readonly media: MediaStore,
    private readonly faults: FaultSettings,
    private readonly browsers: OnlineBrowsers,
    private readonly counters: BrowserCounters,
    private readonly inFlight: InFlight,
    private readonly currentBuild: CurrentBuild,
  ) {}

  @Get('ledger')
  readLedger(@Query() { since }: LedgerQueryDto): StreamableFile {
    const lines = Readable.from(this.ledger.lines(since ?? 0), { objectMode: false });
    return new StreamableFile(lines, { type: 'application/x-ndjson' });
  }

  /** Empties the ledger with the media of its messages, and resets the counters. */
  @Delete('ledger')
  @HttpCode(204)
  async clearLedger(): Promise<void> {
    await this.ledger.clear();
    this.outbox.ledgerCleared();
    this.counters.clear();
    this.inFlight.clear();
    await this.media.clear();
  }

  @Get('stats')
  stats(): SandboxStats {
    const { chatStates, unheard, reloads, numberChecks, conflicts, unknownModules } = this.counters;
    return {
      phones: this.phones.size,
      linked: this.phones.linkedCount,
      online: this.browsers.count,
      accepted: this.ledger.accepted,
      duplicates: this.ledger.duplicates,
      actions: this.ledger.actions,
      typing: chatStates.composing,
      recording: chatStates.recording,
      paused: chatStates.paused,
      unheard,
      reloads,
      numberChecks,
      conflicts,
      maxInFlight: this.inFlight.max,
      offlineQueued: this.outbox.size,
      offlineDropped: this.outbox.dropped,
      unknownModules,
    };
  }

  @Put('faults')
  putFaults(@Body() { phone, ...faults }: FaultsDto): Faults {
    return this.faults.put(faults, phone === undefined ? undefined : digitsOf(phone));
  }

  @Get('faults')
  readFaults(): Faults {
    return this.faults.of(undefined);
  }

  @Delete('faults')
  clearFaults(): Faults {
    this.faults.clear();
    return { ...NO_FAULTS };
  }

  /** All builds, the newest last. `phones` are the phones that have this build as their own. */
  @Get('builds')
  listBuilds(): { items: (Build & { isCurrent: boolean; phones: string[] })[] } {
    const current = this.currentBuild.of();
    const items = builds.map((build) => ({
      ...build,
      isCurrent: build.version === current.version,
      phones: this.currentBuild.phonesOn(build),
    }));
    return { items };
  }

  /** Browsers load this build from now on. Pages that are open stay as they are until they load again. */
  @Put('build')
  putBuild(@Body() { version, phone, damage }: BuildDto): LoadedBuild {
    return this.currentBuild.put(
      version,
      given({ phone: phone === undefined ? undefined : this.phones.require(phone).phone, damage }),
    );
  }

  @Get('certificate')
  certificate(): { spki: string; port: number } {
    return { spki: this.server.spki, port: this.server.port };
  }

  @Get('health')
  health(): { status: 'ok'; port: number; timestamp: string } {
    return { status: 'ok', port: this.server.port, timestamp: new Date().toISOString() };
  }
}
