import type { INestApplicationContext } from '@nestjs/common';
import { getDataSourceToken } from '@nestjs/typeorm';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import type { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { MediaModule } from '../../src/media/media.module.js';
import { MediaService } from '../../src/media/media.service.js';
import { DatabaseModule } from '../../src/platform/database/database.module.js';
import { createLogger } from '../../src/platform/logging/logger.js';
import { createContext } from '../../src/platform/start-role.js';
import { scratchDatabase } from '../scratch-database.js';

const png = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==',
  'base64',
);

let context: INestApplicationContext;
let drop: () => Promise<void>;
let database: DataSource;
let media: MediaService;
let dir: string;
let workspaceId: string;

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  dir = mkdtempSync(join(tmpdir(), 'flotilla-media-'));
  const config = {
    ...scratch.config,
    media: { ...scratch.config.media, path: dir, maxBytes: 1_000_000 },
    allowedPrivateAddresses: ['127.0.0.0/8'],
  };
  const role = { module: class {}, imports: [DatabaseModule, MediaModule] };
  context = await createContext(role, config, createLogger('test', 'silent'));
  database = context.get<DataSource>(getDataSourceToken());
  media = context.get(MediaService);
});
afterAll(async () => {
  await context?.close();
  await drop?.();
  rmSync(dir, { recursive: true, force: true });
});
beforeEach(async () => {
  workspaceId = await newWorkspace();
});

it('keeps a file', async () => {
  const row = await media.take(workspaceId, { data: png.toString('base64'), filename: 'a.png' });
  expect(row).toMatchObject({ mimetype: 'image/png', size: png.length, filename: 'a.png' });
  expect(await buffer(await media.open(row.id))).toEqual(png);
});

async function newWorkspace(): Promise<string> {
  const id = uuidv7();
  await database.query('insert into workspaces (id, name) values ($1, $2)', [id, 'test']);
  return id;
}
