import { beforeEach, describe, expect, it } from 'vitest';
import type { WantedPage, WebVersionsService } from '../../src/accounts/web-versions.service.js';
import { createLogger } from '../../src/platform/logging/logger.js';
import type { AccountDriver } from '../../src/sessions/account-driver.js';
import type { AccountSessions } from '../../src/sessions/account-sessions.js';
import { SendCounts } from '../../src/sessions/send-counts.js';
import { WebVersionRollout } from '../../src/sessions/web-version-rollout.js';
import type { PageSendResult } from '../../src/whatsapp/in-page/page-functions.js';
import type { WhatsAppSession } from '../../src/whatsapp/whatsapp-session.js';
import { accountOf } from '../support/factories.js';
import { fake } from '../support/fake.js';

/** What the rollout sees and does of one account. */
interface Driven {
  id: string;
  driver: AccountDriver;
  ready: boolean;
  holdReason: string | null;
  /** The version that it has, and the version that it gets at its next load. */
  version: string;
  given: string | null;
  restarts: number;
}

const target = '2.3000.2';
let accounts: Driven[];
let wanted: Map<string, Partial<WantedPage>>;
let counted: [version: string, sends: number, failures: number][];
let isDatabaseAway: boolean;
let proven: string[];
let answer: PageSendResult;
let sendCounts: SendCounts;
let rollout: WebVersionRollout;

/** An account that WhatsApp has given a version. */
function add(version: string): Driven {
  const account = accountOf({ environment: 'sandbox' });
  const driven: Driven = {
    id: account.id,
    ready: true,
    holdReason: null,
    version,
    given: null,
    restarts: 0,
    driver: fake<AccountDriver>({
      account,
      isPausing: false,
      get ready() {
        return driven.ready;
      },
      get holdReason() {
        return driven.holdReason;
      },
      get webVersion() {
        return driven.version;
      },
      current: fake<WhatsAppSession>({ sendToItself: () => Promise.resolve(answer) }),
      isGivenOther: (other) => driven.given !== other,
      give: async (page) => void (driven.given = page?.version ?? null),
      needsPage: (other, isBroken) => other !== null && (isBroken || driven.version !== other),
      restart: () => {
        driven.restarts += 1;
        driven.ready = false;
      },
    }),
  };
  accounts.push(driven);
  return driven;
}

/** The account has started again, with the page that it was given. */
function becomeReady(driven: Driven, holdReason: string | null = null): void {
  Object.assign(driven, { ready: true, version: driven.given, holdReason });
}

const restarted = () => accounts.filter(({ restarts }) => restarts > 0).map(({ id }) => id);

beforeEach(() => {
  accounts = [];
  wanted = new Map();
  counted = [];
  proven = [];
  isDatabaseAway = false;
  answer = { outcome: 'known', ack: 1, whatsappId: 'X' };
  sendCounts = new SendCounts();
  const sessions = fake<AccountSessions>({
    get all() {
      return accounts.map(({ driver }) => driver);
    },
    sendCounts,
  });
  const versions = fake<WebVersionsService>({
    wanted: async (ids) =>
      ids.map((id) => ({
        id,
        environment: 'sandbox',
        version: target,
        needsSelfTest: false,
        ...wanted.get(id),
      })),
    page: async (_environment, version) => ({ version, html: 'page' }),
    count: async (_environment, version, sends, failures) => {
      if (isDatabaseAway) throw new Error('PostgreSQL is away');
      counted.push([version, sends, failures]);
    },
    useId: async () => undefined,
    selfSent: async (_environment, version) => void proven.push(version),
  });
  rollout = new WebVersionRollout(sessions, versions, createLogger('test', 'silent'));
});

describe('the rollout of a version', () => {
  it('gives an account that has the version its page for the next load, and does not restart it', async () => {
    const one = add(target);
    await rollout.run();
    expect(one).toMatchObject({ given: target, restarts: 0 });
  });

  it('restarts healthy accounts with another version one after the other', async () => {
    const [one, two, three] = [add('old'), add('old'), add('old')];
    await rollout.run();
    await rollout.run();
    expect(accounts.map(({ given }) => given)).toEqual([target, target, target]);
    expect(restarted()).toEqual([one.id]);
    becomeReady(one);
    await rollout.run();
    expect(restarted()).toEqual([one.id, two.id]);
    becomeReady(two);
    await rollout.run();
    becomeReady(three);
    await rollout.run();
    expect(accounts.map(({ restarts }) => restarts)).toEqual([1, 1, 1]);
  });

  it('restarts all accounts at once that cannot send with their page', async () => {
    const broken = [add('old'), add('old'), add('old')];
    for (const driven of broken) driven.holdReason = 'WAWebMsgKey';
    await rollout.run();
    expect(restarted()).toEqual(broken.map(({ id }) => id));
  });

  it('moves no other account while a moved account finds its new page broken', async () => {
    const [one, two] = [add('old'), add('old')];
    await rollout.run();
    becomeReady(one, 'WAWebMsgKey');
    wanted.set(one.id, { version: null });
    await rollout.run();
    await rollout.run();
    expect(restarted()).toEqual([one.id]);
    one.holdReason = null;
    await rollout.run();
    expect(restarted()).toEqual([one.id, two.id]);
  });

  it('is not held back by an account that has left the instance', async () => {
    const [one, two] = [add('old'), add('old')];
    await rollout.run();
    becomeReady(one, 'WAWebMsgKey');
    accounts = [two];
    await rollout.run();
    expect(restarted()).toEqual([two.id]);
  });
});

describe('the message of a canary to itself', () => {
  it.each<[what: string, result: PageSendResult, isProof: boolean]>([
    ['was acknowledged', { outcome: 'known', ack: 1, whatsappId: 'X' }, true],
    ['was refused', { outcome: 'known', ack: -1, whatsappId: 'X' }, false],
    [
      'was acknowledged, but the page does not find it',
      { outcome: 'known', ack: 1, whatsappId: 'X', isUnfound: true },
      false,
    ],
    ['was not acknowledged', { outcome: 'timed_out' }, false],
  ])('that %s: proof is %s', async (_what, result, isProof) => {
    answer = result;
    const one = add(target);
    wanted.set(one.id, { version: null, needsSelfTest: true });
    await rollout.run();
    // Everything here resolves at once: by now the message has its result.
    await new Promise((resolve) => setImmediate(resolve));
    expect(proven).toEqual(isProof ? [target] : []);
  });
});

describe('the counts of sends', () => {
  it('are written together, and kept while PostgreSQL is away', async () => {
    for (const isOk of [true, true, false]) sendCounts.count('sandbox', 'a', isOk);
    sendCounts.count('sandbox', 'b', true);
    sendCounts.count('sandbox', null, true);
    isDatabaseAway = true;
    await expect(rollout.run()).rejects.toThrow('away');
    sendCounts.count('sandbox', 'a', true);
    isDatabaseAway = false;
    await rollout.run();
    await rollout.run();
    expect(counted.toSorted()).toEqual([
      ['a', 3, 1],
      ['b', 1, 0],
    ]);
  });
});
