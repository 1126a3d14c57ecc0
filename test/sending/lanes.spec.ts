import type { INestApplicationContext } from '@nestjs/common';
import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, it, vi } from 'vitest';
import type { LaneResult } from '../../src/sending/lane-run.js';
import { LanesService } from '../../src/sending/lanes.service.js';
import { AcceptService } from '../../src/messages/accept.service.js';
import { QueueWorker } from '../../src/queues/queue-worker.js';
import { QueuesService } from '../../src/queues/queues.service.js';
import { defaultWorkerOptions, type StopReason } from '../../src/queues/worker-options.js';
import { eventually } from '../support/eventually.js';
import { insertAccount, insertInstance, insertServer, insertWorkspace, ready } from '../support/factories.js';
import { startServices } from '../support/services.js';
import { type QueueSystem, queueSystem } from '../support/queues.js';

vi.setConfig({ testTimeout: 60_000 });

/** Stands in for an instance: answers each run with one sent message, and does not answer while it is halted. */
class StandInInstance {
  /** The accounts whose lanes it was asked to run, in that order. */
  readonly asked: string[] = [];
  /** The accounts whose lanes it ran. */
  readonly ran = new Set<string>();
  isHalted = false;
  /** Accounts for whose lanes it does not answer. */
  readonly stuck = new Set<string>();
  private readonly server: Server = createServer((request, response) => {
    const accountId = request.url!.split('/')[3]!;
    this.asked.push(accountId);
    if (!this.isHalted && !this.stuck.has(accountId)) void this.answer(accountId, response);
  });

  constructor(readonly id: string) {}

  async start(): Promise<void> {
    await once(this.server.listen(0, '127.0.0.1'), 'listening');
    const url = `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
    await insertInstance(database, this.id, { url });
  }

  stop(): void {
    this.server.closeAllConnections();
    this.server.close();
  }

  private async answer(accountId: string, response: ServerResponse): Promise<void> {
    await database.query(`update messages set status = 'sent' where account_id = $1`, [accountId]);
    this.ran.add(accountId);
    response.end(JSON.stringify({ ended: 1, head: null, isUnclaimed: false } satisfies LaneResult));
  }
}

let system: QueueSystem;
let context: INestApplicationContext;
let database: DataSource;
let working: Promise<StopReason>;
let sweep: NodeJS.Timeout;
let workspaceId: string;
const hung = new StandInInstance('one.instance_00');
const healthy = new StandInInstance('one.instance_01');

beforeAll(async () => {
  system = await queueSystem(4);
  ({ context, database } = await startServices(system.config));
  // A run without an answer ends soon, and an instance that gave none is asked again soon: its clock runs eight times as fast.
  const lanes = context.get(LanesService);
  lanes['answerGraceMs'] = 1_000;
  lanes['silent']['clock'] = () => performance.now() * 8;
  workspaceId = await insertWorkspace(database);
  await insertServer(database, 'one');
  await Promise.all([hung.start(), healthy.start()]);
  await context.get(QueuesService).assertReady();
  working = context.get(QueueWorker).work(defaultWorkerOptions);
  // As the scheduler does.
  sweep = setInterval(() => void context.get(LanesService).sweep(), 700);
});
afterAll(async () => {
  clearInterval(sweep);
  hung.stop();
  context?.get(QueueWorker).stop();
  await working;
  healthy.stop();
  await context?.close();
  await system?.drop();
});

/** An account that an instance drives, and an urgent message of it. */
async function accept({ id: instanceId }: StandInInstance, id = uuidv7()): Promise<string> {
  const columns = { ...ready, id, instance_id: instanceId };
  const accountId = await insertAccount(database, workspaceId, columns);
  const wanted = { accountId, to: '+6281234567890', text: 'x', type: 'text', priority: 'urgent' } as const;
  await context.get(AcceptService).accept(workspaceId, wanted);
  return accountId;
}

it('an instance that does not answer does not hold back others, also when it has many accounts', async () => {
  const { concurrency } = system.config.worker;
  hung.isHalted = true;
  const lanes = await Promise.all(Array.from({ length: concurrency + 8 }, () => accept(hung)));
  await eventually('it has every slot', () => Promise.resolve(hung.asked.length === concurrency));

  const first = await accept(healthy);
  await eventually('the others are served again', () => Promise.resolve(healthy.ran.has(first)), 8_000);
  // Its lanes are put again all the time, but they get only one slot.
  for (let count = 0; count < 3; count += 1) {
    const next = await accept(healthy);
    await eventually('they are served at once', () => Promise.resolve(healthy.ran.has(next)), 1_500);
  }

  hung.isHalted = false;
  await eventually('it is asked again', () => Promise.resolve(hung.ran.size === lanes.length), 10_000);
});

it('a lane that gets no answer does not hold back the others of its instance', async () => {
  const stuck = uuidv7();
  healthy.stuck.add(stuck);
  await accept(healthy, stuck);
  await eventually('it is asked for', () => Promise.resolve(healthy.asked.includes(stuck)));
  const asked = () => healthy.asked.filter((accountId) => accountId === stuck).length;
  while (asked() < 3) {
    const next = await accept(healthy);
    await eventually('another is run', () => Promise.resolve(healthy.ran.has(next)), 1_500);
  }
});
