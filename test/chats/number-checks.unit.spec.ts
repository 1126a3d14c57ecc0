import { Test } from '@nestjs/testing';
import { v7 as uuidv7 } from 'uuid';
import { describe, expect, it, vi } from 'vitest';
import { AccountSessions } from '../../src/sessions/account-sessions.js';
import { InternalChatsController } from '../../src/chats/chats.internal.js';
import { GroupOperations } from '../../src/chats/group-operations.js';
import { NumberChecks } from '../../src/chats/number-checks.js';
import { CallDispatcher } from '../../src/chats/call-dispatcher.js';
import { TooManyNumberChecks } from '../../src/chats/chat-errors.js';
import { InstanceClient } from '../../src/instances/instance-client.js';
import { RecipientIds } from '../../src/messages/recipient-ids.service.js';
import { RecipientChecks } from '../../src/sending/recipient-checks.js';
import { Refused, type SessionChats } from '../../src/whatsapp/session-chats.js';
import { accountOf } from '../support/factories.js';
import { fake } from '../support/fake.js';
import { sessionsWith } from '../support/fakes.js';
import { settings } from '../support/settings.js';
import { ProblemFilter } from '../../src/platform/errors/problem.filter.js';
import { InternalGuard } from '../../src/platform/http/internal.guard.js';
import { createLogger } from '../../src/platform/logging/logger.js';

const answer = (phone: string) => ({ phone, registered: true, chatId: `${phone}@c.us`, lid: null });

describe('number checks', () => {
  it('are cached for ten minutes, separately for each account', () => {
    let now = 1;
    const checks = new NumberChecks(() => now);
    checks.remember('a', '6281@c.us', answer('6281'));
    now += 600_000;
    expect(checks.known('a', '6281@c.us')).toEqual(answer('6281'));
    expect(checks.known('b', '6281@c.us')).toBeUndefined();
    now += 1;
    expect(checks.known('a', '6281@c.us')).toBeUndefined();
  });

  it('drop the oldest answers when the cache is full', () => {
    const checks = new NumberChecks(() => 1);
    for (let i = 0; i <= 20_000; i += 1) checks.remember('a', String(i), answer(String(i)));
    expect(checks.known('a', '0')).toBeUndefined();
    expect(checks.known('a', '1')).toBeDefined();
    expect(checks.known('a', '20000')).toBeDefined();
  });

  it('are limited to thirty a minute, separately for each account', () => {
    let now = 0;
    const checks = new NumberChecks(() => now);
    for (let i = 0; i < 30; i += 1) checks.count('a');
    expect(() => checks.count('a')).toThrow(TooManyNumberChecks);
    expect(() => checks.count('b')).not.toThrow();
    now = 60_000;
    expect(() => checks.count('a')).not.toThrow();
  });
});

describe('an instance that drives a live account', () => {
  it('checks at most thirty new numbers a minute, and answers with the time of the next check', async () => {
    let asked = 0;
    const chats = { person: (chatId: string) => ((asked += 1), { chatId, alias: null }) };
    const sessions = {
      readyDriver: () => ({ account: { environment: 'live' }, current: { chats: () => chats } }),
    };
    const module = await Test.createTestingModule({
      controllers: [InternalChatsController],
      providers: [
        CallDispatcher,
        GroupOperations,
        { provide: AccountSessions, useValue: sessions },
        { provide: RecipientChecks, useValue: { until: () => null } },
        { provide: RecipientIds, useValue: {} },
      ],
    })
      .overrideGuard(InternalGuard)
      .useValue({ canActivate: () => true })
      .compile();
    const app = module.createNestApplication({ logger: false });
    app.useGlobalFilters(new ProblemFilter(createLogger('test', 'silent')));
    await app.listen(0, '127.0.0.1');
    const client = new InstanceClient(settings());
    try {
      const url = await app.getUrl();
      const path = `/internal/accounts/${uuidv7()}/page`;
      const check = (phone: string) =>
        client.call(url, 'POST', path, { epoch: 1, call: 'number', ask: { phone } });
      for (let i = 0; i < 30; i += 1)
        expect(await check(`62812345678${i}`)).toMatchObject({ registered: true });
      await expect(check('628999')).rejects.toMatchObject({
        status: 429,
        code: 'account.too_many_number_checks',
        retryAfterSeconds: 60,
      });
      // An answer from the cache does not count.
      expect(await check('628123456780')).toMatchObject({ registered: true });
      expect(asked).toBe(30);
    } finally {
      await client.onApplicationShutdown();
      await app.close();
    }
  });
});

describe('an instance', () => {
  const asked = '5511987654321@c.us';
  const own = '551187654321@c.us';
  const config = { numberCheckPauseMs: 60_000 };
  /** The calls of an account whose page is this. */
  function dispatcherOf(page: Partial<SessionChats>, recipients: Partial<RecipientIds>) {
    const ids = fake<RecipientIds>(recipients);
    const sessions = sessionsWith(
      { chats: () => fake<SessionChats>(page) },
      { account: accountOf({ environment: 'sandbox' }) },
    );
    return new CallDispatcher(sessions, fake<GroupOperations>({}), ids, new RecipientChecks(ids, config));
  }
  const number = (phone: string) => ({ epoch: 1, call: 'number' as const, ask: { phone } });

  it('asks WhatsApp about no number after WhatsApp has refused to check one, until the pause is over', async () => {
    const person = vi.fn<SessionChats['person']>().mockResolvedValue(new Refused(429));
    const calls = dispatcherOf({ person }, {});
    for (const phone of ['5511987654321', '12025550108'])
      await expect(calls.dispatch('a', number(phone))).rejects.toMatchObject({
        status: 429,
        code: 'whatsapp.number_checks_paused',
        retryAfterSeconds: 60,
      });
    expect(person).toHaveBeenCalledOnce();
  });

  it('keeps the other id that WhatsApp has for a number, and finds the chat under it', async () => {
    const kept = new Map<string, string>();
    const recipients: Partial<RecipientIds> = {
      remember: async (_accountId, from, to) => void kept.set(from, to),
      idsOf: async (_accountId, chatIds) => chatIds.map((id) => kept.get(id) ?? id),
    };
    const history = vi.fn<SessionChats['history']>().mockResolvedValue({ items: [], isComplete: true });
    const page: Partial<SessionChats> = {
      person: async () => ({ chatId: own, alias: '77@lid' }),
      find: async (chatId) => (chatId === own ? own : null),
      history,
    };
    const calls = dispatcherOf(page, recipients);
    expect(await calls.dispatch('a', number('5511987654321'))).toEqual({
      phone: '5511987654321',
      registered: true,
      chatId: own,
      lid: '77@lid',
    });
    expect([...kept]).toEqual([[asked, own]]);
    await calls.dispatch('a', { epoch: 1, call: 'history', ask: { chatId: asked, limit: 1, after: null } });
    expect(history).toHaveBeenCalledExactlyOnceWith(own, 1, null);
  });
});
