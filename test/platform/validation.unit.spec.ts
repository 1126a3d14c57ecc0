import 'reflect-metadata';
import { Type as TypeOf } from 'class-transformer';
import {
  ArrayMaxSize,
  getMetadataStorage,
  IS_OPTIONAL,
  IsArray,
  IsInt,
  IsObject,
  IsOptional,
  IsString,
  MaxLength,
  ValidateNested,
} from 'class-validator';
import type { Type } from '@nestjs/common';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ValidationFailed } from '../../src/platform/errors/problem.js';
import { Optional } from '../../src/platform/http/optional.js';
import { toDto } from '../../src/platform/http/validation.js';
import { longTurn, Turns } from '../../src/platform/turns.js';

class Inner {
  @Optional()
  @IsArray()
  @ArrayMaxSize(3)
  @IsString({ each: true })
  names?: string[];
}

class Outer {
  @Optional()
  @ArrayMaxSize(2)
  @ValidateNested({ each: true })
  @TypeOf(() => Inner)
  list?: Inner[];

  @Optional()
  @ValidateNested()
  @TypeOf(() => Inner)
  one?: Inner;

  @Optional()
  @IsString()
  @MaxLength(10)
  text?: string;

  @Optional()
  @IsObject()
  free?: object;
}

describe('toDto', () => {
  const errorsOf = (plain: unknown) => {
    try {
      toDto(Outer, plain);
      return [];
    } catch (error) {
      if (!(error instanceof ValidationFailed)) throw error;
      return error.errors!.map(({ path, message }) => `${path}: ${message}`);
    }
  };

  it('refuses an array above its maximum before it makes or validates an element, also in nested objects', () => {
    const many = new Proxy([1, 2, 3, 4], {
      get: (target, key, receiver) => {
        if (key === '0') throw new Error('an element was read');
        return Reflect.get(target, key, receiver) as unknown;
      },
    });
    expect(errorsOf({ list: many })).toEqual(['list: list must contain no more than 2 elements']);
    expect(errorsOf({ one: { names: many } })).toEqual([
      'one.names: names must contain no more than 3 elements',
    ]);
    expect(errorsOf({ list: [{}, { names: many }] })).toEqual([
      'list.1.names: names must contain no more than 3 elements',
    ]);
  });

  it('refuses a text that no rule of its length can accept', () => {
    expect(errorsOf({ text: 'x'.repeat(31) })).toEqual([
      'text: text must be shorter than or equal to 10 characters',
    ]);
    expect(errorsOf({ text: '🙂'.repeat(10) })).toEqual([]);
  });

  it('makes the nested classes, and leaves values without a class as they are', () => {
    const free = { constructor: 1, deep: [{}] };
    const dto = toDto(Outer, { list: [{ names: ['x'] }], one: {}, free });
    expect(dto).toBeInstanceOf(Outer);
    expect(dto.list![0]).toBeInstanceOf(Inner);
    expect(dto.one).toBeInstanceOf(Inner);
    expect(dto.free).toBe(free);
  });
});

interface Storage {
  validationMetadatas: Map<unknown, { name?: string; target: unknown; propertyName: string }[]>;
}

describe('null', () => {
  class Limits {
    @IsOptional()
    @IsInt()
    most?: number | null;
  }

  class Settings extends Outer {
    @Optional()
    @IsString()
    mode = 'plain';

    @Optional()
    @ValidateNested()
    @TypeOf(() => Limits)
    limits?: Limits;
  }

  it('means left out: defaults apply, also in nested DTOs and lists', () => {
    const plain = { mode: null, text: null, list: [{ names: null }, {}], limits: { most: null }, free: null };
    const before = structuredClone(plain);
    const dto = toDto(Settings, plain);
    expect({ ...dto, list: dto.list!.map((item) => ({ ...item })), limits: { ...dto.limits } }).toEqual({
      mode: 'plain',
      list: [{}, {}],
      limits: { most: null },
    });
    expect(dto.text).toBeUndefined();
    expect(plain).toEqual(before);
    const free = { a: null };
    expect(toDto(Settings, { free }).free).toBe(free);
  });

  it('has a meaning of its own in these fields only', async () => {
    const source = join(import.meta.dirname, '../../src');
    for (const file of await readdir(source, { recursive: true }))
      if (file.endsWith('.dto.ts')) await import(join(source, file));
    const metadatas = [...(getMetadataStorage() as unknown as Storage).validationMetadatas.values()].flat();
    const fields = metadatas
      .filter(({ name, target }) => name === IS_OPTIONAL && !/Query$|^Limits$/.test((target as Type).name))
      .map(({ target, propertyName }) => `${(target as Type).name}.${propertyName}`);
    expect([...new Set(fields)].sort()).toEqual([
      'ChangeChannelDto.picture',
      'ChangeGroupDto.picture',
      'ChangePhoneDto.about',
      'ChangePhoneDto.picture',
      'LimitsDto.maxAccounts',
      'LimitsDto.maxStorageBytes',
      'LimitsDto.messagesPerMinute',
      'RotateApiKeyDto.expiresAt',
      'SendingTimesDto.quietHours',
      'SendingTimesDto.timeZone',
      'SendingTimesDto.windows',
      'ServerSettings.location',
      'ServerSettings.region',
      'ServerSettings.url',
      'UpdateAccountDto.callAnswer',
      'UpdateAccountDto.pacing',
      'UpdateAccountDto.proxyUrl',
      'UpdateCampaignDto.notWithinDays',
      'UpdateCampaignDto.pacing',
      'UpdateCampaignDto.safety',
      'UpdateCampaignDto.startAt',
      'UpdateOwnWorkspaceDto.defaultCountry',
      'UpdateOwnWorkspaceDto.optOutWords',
      'UpdateWebhookDto.accountIds',
      'UpdateWebhookDto.caCertificate',
      'UpdateWebhookDto.description',
      'UpdateWebhookDto.headers',
      'UpdateWebhookDto.labels',
      'UpdateWorkspaceDto.pacing',
    ]);
  });
});

describe('ValidationFailed', () => {
  it('lists 50 errors, and says how many there are', () => {
    const errors = Array.from({ length: 51 }, (_, index) => ({ path: `f${index}`, message: 'is wrong' }));
    const all = new ValidationFailed(errors.slice(1));
    expect([all.errors!.length, all.message]).toEqual([50, 'f1: is wrong']);
    const some = new ValidationFailed(errors);
    expect(some.errors).toHaveLength(50);
    expect(some.message).toBe('f0: is wrong. This list has the first 50 of 51 errors.');
  });
});

describe('Turns', () => {
  const work = (ms: number) => {
    const end = performance.now() + ms;
    while (performance.now() < end);
  };

  it('give the event loop to others during long work, also when several callers work', async () => {
    let others = 0;
    const timer = setInterval(() => (others += 1), 0);
    const run = async (caller: string) => {
      const turns = new Turns(caller);
      for (let part = 0; part < 6; part += 1) {
        await turns.next();
        work(6);
      }
    };
    await Promise.all([run('a'), run('b'), run('c'), run('d')]);
    clearInterval(timer);
    // Two parts fill a turn: there were twelve turns. Without turns, others had none.
    expect(others).toBeGreaterThanOrEqual(6);
  });

  it('go round among the callers', async () => {
    const order: string[] = [];
    const take = async (caller: string) => {
      await longTurn(caller);
      order.push(caller);
      work(2);
    };
    await Promise.all([...'aaaaabbc'].map(take));
    expect(order.join('')).toBe('abcabaaa');
  });
});
