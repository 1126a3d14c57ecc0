import { getDataSourceToken } from '@nestjs/typeorm';
import type { DataSource } from 'typeorm';
import { expect, it, vi } from 'vitest';
import { EventStream } from '../../src/events/event-stream.js';
import { EventsModule } from '../../src/events/events.module.js';
import { EventsService } from '../../src/events/events.service.js';
import { DatabaseModule } from '../../src/platform/database/database.module.js';
import { createLogger } from '../../src/platform/logging/logger.js';
import { createContext } from '../../src/platform/start-role.js';
import { insertWorkspace } from '../support/factories.js';
import { eventually } from '../support/eventually.js';
import { scratchDatabase } from '../support/scratch-database.js';

it('streams that open at the same time begin at the same place, and get every event from there', async () => {
  const scratch = await scratchDatabase();
  const module = { module: class TestEventsModule {}, imports: [DatabaseModule, EventsModule] };
  const context = await createContext(module, scratch.config, createLogger('test', 'silent'), {
    handleSignals: false,
  });
  try {
    const database = context.get<DataSource>(getDataSourceToken());
    const workspaceId = await insertWorkspace(database);
    const emit = (n: number) =>
      database.query('insert into events (workspace_id, type, data) values ($1, $2, $3)', [
        workspaceId,
        'message.sent',
        { n },
      ]);
    const events = context.get(EventsService);
    const end = events.end.bind(events);
    let open = () => {};
    const isOpen = new Promise<void>((resolve) => (open = resolve));
    let asked = 0;
    // The first call gets a place before the event, every later call a place after it.
    vi.spyOn(events, 'end').mockImplementation(async () => {
      const place = asked++ === 0 ? await end() : null;
      await isOpen;
      return place ?? end();
    });
    const told: string[][] = Array.from({ length: 50 }, () => []);
    const streams = told.map((texts) =>
      context.get(EventStream).subscribe(
        { workspaceId, keyId: undefined, types: [], after: undefined, withCodes: false },
        {
          deliver: (bytes) => texts.push(String(bytes)) > 0,
          drained: () => Promise.resolve(),
          close: () => undefined,
        },
      ),
    );
    await eventually('asked', async () => asked > 0);
    await emit(1);
    open();
    const unsubscribe = await Promise.all(streams);
    await emit(2);
    await eventually('told', async () => told.every((texts) => texts.length >= 3));
    for (const [beginning, ...texts] of told) {
      expect(beginning).toMatch(/^id: \d+-\d+\n\n$/);
      expect(texts.map((text) => (/"n":(\d+)/.exec(text) ?? [])[1])).toEqual(['1', '2']);
    }
    for (const leave of unsubscribe) leave();
  } finally {
    await context.close();
    await scratch.drop();
  }
}, 60_000);
