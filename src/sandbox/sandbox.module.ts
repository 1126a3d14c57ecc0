import {
  type DynamicModule,
  type FactoryProvider,
  Module,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
} from '@nestjs/common';
import { CurrentBuild } from './builds/builds.js';
import { Ledger } from './journal/ledger.js';
import { Outbox } from './journal/outbox.js';
import { Calls } from './network/calls.js';
import { CallLinks } from './network/call-links.js';
import { ChannelActions } from './network/channel-actions.js';
import { ChannelRegistry } from './network/channels.js';
import { Delivery } from './network/delivery.js';
import type { BrowserEvent } from './network/events.js';
import { FaultSettings } from './network/fault-settings.js';
import { GroupActions } from './network/group-actions.js';
import { GroupRegistry } from './network/groups.js';
import { MediaStore } from './network/media.js';
import { PhoneRegistry } from './network/phones.js';
import { PictureStore } from './network/pictures.js';
import { Presences } from './network/presences.js';
import { Stories } from './network/stories.js';
import { SandboxLogger, SandboxOptions } from './options.js';
import { AccountQuestions } from './wire/account-questions.js';
import { BrowserCounters } from './wire/browser-counters.js';
import { FrameHandler } from './wire/frame-handler.js';
import { InFlight } from './wire/in-flight.js';
import { Linking } from './wire/linking.js';
import { OnlineBrowsers } from './wire/online-browsers.js';
import { ProfileQuestions } from './wire/profile-questions.js';
import { Questions } from './wire/questions.js';
import { Renumbering } from './wire/renumbering.js';
import { Ringing } from './wire/ringing.js';
import { SandboxServer } from './wire/server.js';
import { Submissions } from './wire/submissions.js';
import { Welcome } from './wire/welcome.js';

/** What is restored from files in the sandbox's directory when the module is built. */
const stores = [Ledger, Outbox, PhoneRegistry, GroupRegistry, ChannelRegistry, MediaStore, PictureStore].map(
  (store): FactoryProvider => ({
    provide: store,
    inject: [SandboxOptions],
    useFactory: ({ dir }: SandboxOptions) => store.open(dir),
  }),
);
const network = [
  CurrentBuild,
  FaultSettings,
  Calls,
  CallLinks,
  Delivery,
  GroupActions,
  ChannelActions,
  Stories,
  Presences,
];
const wire = [
  InFlight,
  BrowserCounters,
  Welcome,
  OnlineBrowsers,
  Linking,
  AccountQuestions,
  Submissions,
  ProfileQuestions,
  Questions,
  Renumbering,
  Ringing,
  FrameHandler,
  SandboxServer,
];

/** The simulated WhatsApp. It listens for browsers as long as the application lives. */
@Module({})
export class SandboxModule implements OnApplicationBootstrap, OnApplicationShutdown {
  constructor(
    private readonly server: SandboxServer,
    private readonly delivery: Delivery,
    private readonly ledger: Ledger,
    private readonly outbox: Outbox<BrowserEvent>,
    private readonly phones: PhoneRegistry,
    private readonly groups: GroupRegistry,
    private readonly channels: ChannelRegistry,
  ) {}

  /** Provides the simulated WhatsApp with these options. */
  static forRoot(options: SandboxOptions): DynamicModule {
    const settings = [
      { provide: SandboxOptions, useValue: options },
      { provide: SandboxLogger, useValue: options.logger },
    ];
    const shared = [...stores, ...network, ...wire];
    return { module: SandboxModule, providers: [...settings, ...shared], exports: shared };
  }

  /** Completes what a crash interrupted, and starts to listen. */
  async onApplicationBootstrap(): Promise<void> {
    await this.delivery.recover();
    await this.server.start();
  }

  /** Stops within a few seconds, and writes what is left. */
  async onApplicationShutdown(): Promise<void> {
    await this.server.stop();
    await Promise.all(
      [this.ledger, this.outbox, this.phones, this.groups, this.channels].map((store) => store.close()),
    );
  }
}
