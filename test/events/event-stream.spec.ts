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
          inTurn: (read) => read(),
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
      expect(texts.map((text) => (/"n": (\d+)/.exec(text) ?? [])[1])).toEqual(['1', '2']);
    }
    for (const leave of unsubscribe) leave();
  } finally {
    await context.close();
    await scratch.drop();
  }
}, 60_000);

it('a listener that is behind reads the log at its own pace: every event once, in order, and little at a time', async () => {
  const scratch = await scratchDatabase();
  const module = { module: class TestEventsModule {}, imports: [DatabaseModule, EventsModule] };
  const context = await createContext(module, scratch.config, createLogger('test', 'silent'), {
    handleSignals: false,
  });
  try {
    const database = context.get<DataSource>(getDataSourceToken());
    const workspaceId = await insertWorkspace(database);
    // PostgreSQL keeps these texts in a few hundred bytes.
    const emit = (from: number, to: number) =>
      database.query(
        `insert into events (workspace_id, type, data)
         select $1, 'message.sent', jsonb_build_object('n', n, 'text', repeat('x', 60000)) from generate_series($2::int, $3::int) n`,
        [workspaceId, from, to],
      );
    await emit(1, 40);
    const events = context.get(EventsService);
    // Events are told when no older transaction runs, also one of another test on this server.
    const first = await eventually('the events are told', async () => {
      const read = await events.readAfter('0-0', 250_000, workspaceId);
      return read.events.length > 0 && read;
    });
    expect([first.events.length, first.hasMore]).toEqual([5, true]);
    const alone = await events.readAfter('0-0', 1, workspaceId);
    expect([alone.events.length, alone.hasMore]).toEqual([1, true]);

    const got: number[] = [];
    let largest = 0;
    let stops = 0;
    let goOn = () => {};
    const leave = await new Promise<() => void>((resolve, reject) => {
      const stream = context.get(EventStream).subscribe(
        { workspaceId, keyId: undefined, types: [], after: '0-0', withCodes: false },
        {
          deliver: (bytes) => {
            largest = Math.max(largest, bytes.length);
            got.push(...[...String(bytes).matchAll(/"n": (\d+)/g)].map(([, n]) => Number(n)));
            // Every third time, too much waits for the client.
            return got.length % 3 !== 0;
          },
          drained: () => {
            stops += 1;
            return stops === 1 ? new Promise<void>((drain) => (goOn = drain)) : Promise.resolve();
          },
          inTurn: (read) => read(),
          close: () => reject(new Error('closed')),
        },
      );
      stream.then(resolve, reject);
      // While the client reads nothing, nothing more is read for it.
      void eventually('it has stopped', () => stops === 1)
        .then(() => emit(41, 60))
        .then(() => expect(got.length).toBeLessThan(10))
        .then(() => goOn())
        .catch(reject);
    });
    for (let n = 61; n <= 100; n += 4) await emit(n, n + 3);
    await eventually('all have come', () => got.length >= 100);
    expect(got).toEqual(Array.from({ length: 100 }, (_, index) => index + 1));
    expect(stops).toBeGreaterThan(3);
    expect(largest).toBeLessThan(400_000);
    leave();
  } finally {
    await context.close();
    await scratch.drop();
  }
}, 60_000);
