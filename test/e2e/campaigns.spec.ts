import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.js';
import { type Answer, Flotilla, type LedgerEntry, type Workspace } from '../support/flotilla.js';

let flotilla: Flotilla;
let workspace: Workspace;
let accounts: { id: string; phoneNumber: string }[];
let phones: string[];

beforeAll(async () => {
  flotilla = await Flotilla.start({ instances: 1 });
  workspace = await flotilla.newWorkspace();
  accounts = await workspace.linkedAccounts(2);
  phones = [];
  for (let count = 0; count < 60; count += 1) phones.push(await flotilla.newPhone());
});
afterAll(() => flotilla?.stop());

const accountIds = () => accounts.map(({ id }) => id);

async function newCampaign(fields: Record<string, unknown> = {}): Promise<string> {
  const answer = await workspace.call('POST', '/campaigns', {
    name: 'Spring sale',
    accountIds: accountIds(),
    message: { text: 'Hello {{name|friend}}, your code is {{code}}' },
    ...fields,
  });
  expect(answer.status, JSON.stringify(answer.body)).toBe(201);
  return answer.body.id;
}

const upload = (id: string, body: string, type = 'text/csv'): Promise<Answer> =>
  workspace.call('POST', `/campaigns/${id}/recipients`, body, { 'content-type': type });

const csvOf = (numbers: string[], code: string) =>
  `to,name,code\n${numbers.map((number, index) => `${number},Person ${index},${code}-${index}`).join('\n')}\n`;

const get = async (id: string) => (await workspace.call('GET', `/campaigns/${id}`)).body;

const untilStatus = (id: string, status: string) =>
  eventually(
    `campaign ${status}`,
    async () => {
      const campaign = await get(id);
      return campaign.status === status ? campaign : Promise.reject(new Error(JSON.stringify(campaign)));
    },
    60_000,
  );

/** What the simulated WhatsApp has of a campaign whose texts hold this code. */
const ledgerOf = async (code: string): Promise<LedgerEntry[]> =>
  (await flotilla.ledger()).filter(({ text }) => text.includes(`${code}-`));

describe('a campaign', () => {
  it('goes from a spreadsheet to a report: each person gets the message once', async () => {
    const id = await newCampaign();
    const [first, second, third] = phones;
    const list = [
      '\ufeffName;Phone;Code',
      `Sari;+${first};A-1`,
      `;"${second!.slice(0, 2)} ${second!.slice(2)}";A-2`,
      `Budi;+${first};A-3`,
      'Eko;6.28123E+11;A-4',
      `Ana;+${third};`,
      ';;',
      `Rina;+${third};A-5`,
      '',
    ].join('\r\n');
    const loaded = await upload(id, list);
    expect(loaded.status, JSON.stringify(loaded.body)).toBe(200);
    expect(loaded.body).toMatchObject({ accepted: 3, duplicates: 1, invalidCount: 2 });
    expect(loaded.body.invalid).toEqual([
      {
        line: 5,
        column: 'Phone',
        to: '6.28123E+11',
        message: expect.stringContaining('format the column as text'),
      },
      { line: 6, column: 'code', to: third, message: expect.stringContaining('is missing') },
    ]);
    const again = await upload(id, list);
    expect(again.body).toMatchObject({ accepted: 0, duplicates: 4 });

    const preview = await workspace.call('POST', `/campaigns/${id}/preview`);
    expect(preview.body.items.map(({ text }: { text: string }) => text)).toEqual([
      'Hello Sari, your code is A-1',
      'Hello friend, your code is A-2',
      'Hello Rina, your code is A-5',
    ]);
    expect(await get(id)).toMatchObject({
      status: 'draft',
      counts: { total: 3, queued: 3 },
      invalidCount: 2,
    });

    const started = await workspace.call('POST', `/campaigns/${id}/start`);
    expect(started.body).toMatchObject({ status: 'running', pauseReason: null });
    const done = await untilStatus(id, 'completed');
    expect(done.finishedAt).not.toBeNull();
    const { sent, delivered, read } = done.counts;
    expect(done.counts).toMatchObject({
      total: 3,
      queued: 0,
      sending: 0,
      failed: 0,
      unknown: 0,
      cancelled: 0,
    });
    expect(sent + delivered + read).toBe(3);
    expect((await ledgerOf('A')).map(({ to, text }) => [to, text]).sort()).toEqual(
      [
        [first, 'Hello Sari, your code is A-1'],
        [second, 'Hello friend, your code is A-2'],
        [third, 'Hello Rina, your code is A-5'],
      ].sort(),
    );

    const { body: recipients } = await workspace.call('GET', `/campaigns/${id}/recipients`);
    expect(recipients.items).toHaveLength(3);
    const { id: recipientId } = recipients.items[0];
    expect(
      await eventually('delivered', async () => {
        const { body } = await workspace.call('GET', `/campaigns/${id}/recipients/${recipientId}`);
        return body.deliveredAt && body;
      }),
    ).toMatchObject({ to: first, variables: { name: 'Sari', code: 'A-1' }, error: null });
    expect((await workspace.call('GET', `/messages/${recipientId}`)).body).toMatchObject({
      id: recipientId,
      campaignId: id,
      origin: 'campaign',
      priority: 'campaign',
      text: 'Hello Sari, your code is A-1',
    });
    const report = (await workspace.call('GET', `/campaigns/${id}/report.csv`)).body.trim().split('\r\n');
    expect(report[0]).toBe(
      'to,status,error,accountId,sentAt,deliveredAt,readAt,repliedAt,failedAt,id,name,code',
    );
    expect(report).toHaveLength(4);
    const invalid = (await workspace.call('GET', `/campaigns/${id}/invalid.csv`)).body.trim().split('\r\n');
    expect(invalid[0]).toBe('Name,Phone,Code,reason');
    expect(invalid).toHaveLength(3);
    expect(invalid[1]).toMatch(/^Eko,6\.28123E\+11,A-4,/);
  });

  it('sends nothing after its pause was answered, and goes on where it was', async () => {
    const id = await newCampaign();
    expect((await upload(id, csvOf(phones, 'P'))).body).toMatchObject({ accepted: phones.length });
    await flotilla.sandbox('PUT', '/faults', { ackDelayMs: 150 });
    await workspace.call('POST', `/campaigns/${id}/start`);
    await eventually('some sent', async () => (await ledgerOf('P')).length >= 4);
    const paused = await workspace.call('POST', `/campaigns/${id}/pause`);
    expect(paused.body).toMatchObject({ status: 'paused', pauseReason: 'user_initiated' });
    const at = Date.now();
    // What was with an account then has its outcome.
    const still = await eventually('nothing on its way', async () => {
      const campaign = await get(id);
      return campaign.counts.sending === 0 && campaign;
    });
    expect(still.counts.queued).toBeGreaterThan(0);
    const before = (await ledgerOf('P')).length;
    const { body: urgent } = await workspace.send({
      accountId: accounts[0]!.id,
      to: phones[0],
      text: 'between',
    });
    await eventually('sent', async () => (await workspace.call('GET', `/messages/${urgent.id}`)).body.sentAt);
    const later = await ledgerOf('P');
    expect(later).toHaveLength(before);
    expect(later.filter((entry) => Date.parse(entry.at) > at + 1_000)).toEqual([]);
    await flotilla.sandbox('DELETE', '/faults');
    expect((await workspace.call('POST', `/campaigns/${id}/resume`)).body.status).toBe('running');
    const done = await untilStatus(id, 'completed');
    expect(done.counts).toMatchObject({ total: phones.length, queued: 0, failed: 0, unknown: 0 });
    const sent = await ledgerOf('P');
    expect(sent.map(({ to }) => to).sort()).toEqual([...phones].sort());
    expect(new Set(sent.map(({ from }) => from)).size).toBe(2);
  });

  it('is cancelled at once: who has not got it gets nothing', async () => {
    const id = await newCampaign();
    await upload(id, csvOf(phones, 'C'));
    await flotilla.sandbox('PUT', '/faults', { ackDelayMs: 150 });
    await workspace.call('POST', `/campaigns/${id}/start`);
    await eventually('some sent', async () => (await ledgerOf('C')).length >= 4);
    const { body } = await workspace.call('POST', `/campaigns/${id}/cancel`);
    expect(body.status).toBe('cancelled');
    await flotilla.sandbox('DELETE', '/faults');
    const after = await eventually('all have an end', async () => {
      const { counts } = await get(id);
      return counts.sending + counts.queued === 0 && counts;
    });
    expect(after.cancelled).toBeGreaterThan(0);
    expect((await ledgerOf('C')).length).toBe(after.total - after.cancelled);
    const { body: cancelled } = await workspace.call(
      'GET',
      `/campaigns/${id}/recipients?status=cancelled&limit=200`,
    );
    expect(cancelled.items).toHaveLength(after.cancelled);
    const refused = await workspace.call('POST', `/campaigns/${id}/resume`);
    expect([refused.status, refused.body.code]).toEqual([409, 'campaign.status_conflict']);
  });

  it('waits for no account that is away: another one takes its recipients', async () => {
    const id = await newCampaign();
    await upload(id, csvOf(phones, 'T'));
    await flotilla.sandbox('PUT', '/faults', { ackDelayMs: 100 });
    await workspace.call('POST', `/campaigns/${id}/start`);
    await eventually('some sent', async () => (await ledgerOf('T')).length >= 4);
    await workspace.call('POST', `/accounts/${accounts[1]!.id}/disconnect`);
    await flotilla.sandbox('DELETE', '/faults');
    const done = await untilStatus(id, 'completed');
    expect(done.counts).toMatchObject({ total: phones.length, queued: 0, failed: 0 });
    const sent = await ledgerOf('T');
    expect(new Set(sent.map(({ to }) => to)).size).toBe(phones.length);
    expect(sent.filter(({ duplicate }) => duplicate)).toEqual([]);
    await workspace.call('POST', `/accounts/${accounts[1]!.id}/connect`, {});
    await workspace.untilStatus(accounts[1]!.id, 'ready');
  });

  it('tells its progress and its end as events', async () => {
    const id = await newCampaign();
    await upload(
      id,
      JSON.stringify({ recipients: [{ to: phones[0], variables: { code: 'E-0' } }] }),
      'application/json',
    );
    await workspace.call('POST', `/campaigns/${id}/start`);
    await untilStatus(id, 'completed');
    const isMeant = (data: { id: string }) => data.id === id;
    const statuses = await workspace.events(['campaign.status'], 2, isMeant);
    expect(statuses.map(({ data }) => data.status)).toEqual(['running', 'completed']);
    const progress = await workspace.events(['campaign.progress'], 1, isMeant);
    expect(progress[0]!.data.counts).toMatchObject({ total: 1 });
  });

  it('starts at its time', async () => {
    const id = await newCampaign({ startAt: new Date(Date.now() + 2_000).toISOString() });
    await upload(id, `{"to":"${phones[1]}","code":"S-0"}\n`, 'application/x-ndjson');
    expect((await workspace.call('POST', `/campaigns/${id}/start`)).body.status).toBe('scheduled');
    const done = await untilStatus(id, 'completed');
    expect(Date.parse(done.startedAt)).toBeGreaterThanOrEqual(Date.parse(done.startAt));
  });
});

describe('an operator', () => {
  it('runs a campaign from the command line: create with a list, start, watch, report', async () => {
    const file = join(flotilla.stack.dir, 'list.csv');
    await writeFile(file, `phone,code\n+${phones[2]},O-1\n12,O-2\n`);
    const workspaceId = ['--workspace', workspace.id];
    const created = await flotilla.stack.cli(
      ...['campaign:create', 'From the shell', ...workspaceId, '--account', ...accountIds()],
      ...['--text', 'Hello {{name|friend}}, your code is {{code}}', '--file', file],
    );
    expect(created.code, created.output).toBe(0);
    expect(created.output).toContain('1 new recipients, 0 duplicates, 1 invalid lines');
    expect(created.output).toContain('line 3: phone 12 ');
    const id = created.stdout.trim().split(' ')[0]!;
    const started = await flotilla.stack.cli('campaign:start', id, ...workspaceId);
    expect(started.stdout).toContain('From the shell: running, 1 recipients');
    const watched = await flotilla.stack.cli('campaign:status', id, ...workspaceId, '--watch', '--json');
    expect(JSON.parse(watched.stdout)).toMatchObject({
      id,
      status: 'completed',
      counts: { total: 1, queued: 0 },
    });
    const report = await flotilla.stack.cli('campaign:report', id, ...workspaceId);
    expect(report.stdout).toContain(`\r\n${phones[2]},`);
    const listed = await flotilla.stack.cli('campaign:list', ...workspaceId, '--limit', '1');
    expect(listed.stdout).toContain('From the shell');
    const unknown = await flotilla.stack.cli('campaign:pause', id, ...workspaceId);
    expect([unknown.code, unknown.output]).toEqual([1, expect.stringContaining('The campaign is completed')]);
  });
});

describe('opting out of campaigns', () => {
  const says = (phone: string, text: string, more: object = {}) =>
    flotilla.sandbox('POST', `/phones/${phone}/messages`, { to: accounts[0]!.phoneNumber, text, ...more });
  const suppressionsOf = async (phone: string) =>
    (await workspace.call('GET', `/suppressions?to=${encodeURIComponent(`+${phone}`)}`)).body.items;
  const untilSuppressed = (phone: string) =>
    eventually('suppressed', async () => (await suppressionsOf(phone))[0]);
  const recipientOf = async (id: string, phone: string) =>
    (await workspace.call('GET', `/campaigns/${id}/recipients?limit=200`)).body.items.find(
      ({ to }: { to: string }) => to === phone,
    );
  const newPhones = (count: number) => Promise.all(Array.from({ length: count }, () => flotilla.newPhone()));

  it('who writes STOP gets nothing more of any campaign, and still gets replies', async () => {
    const people = await newPhones(30);
    const last = people.at(-1)!;
    const [running, next] = [await newCampaign(), await newCampaign()];
    await upload(running, csvOf(people, 'O'));
    await upload(next, csvOf([last, people[0]!], 'N'));
    await flotilla.sandbox('PUT', '/faults', { ackDelayMs: 150 });
    await workspace.call('POST', `/campaigns/${running}/start`);
    await eventually('some sent', async () => (await ledgerOf('O')).length >= 2);
    await says(last, 'Stop!');
    const suppressed = await untilSuppressed(last);
    await flotilla.sandbox('DELETE', '/faults');
    expect(suppressed).toMatchObject({
      to: last,
      source: 'reply',
      reason: 'Stop!',
      accountId: accountIds()[0],
    });
    expect((await workspace.call('GET', `/messages/${suppressed.messageId}`)).body).toMatchObject({
      direction: 'incoming',
      from: last,
      text: 'Stop!',
    });
    await workspace.call('POST', `/campaigns/${next}/start`);
    for (const [id, cancelled, total] of [
      [running, 1, 30],
      [next, 1, 2],
    ] as const) {
      expect((await untilStatus(id, 'completed')).counts).toMatchObject({ total, cancelled, queued: 0 });
      expect(await recipientOf(id, last)).toMatchObject({
        status: 'cancelled',
        error: { code: 'campaign.suppressed' },
      });
    }
    const { body: reply } = await workspace.send({
      accountId: accountIds()[0],
      to: last,
      text: 'As you wish.',
    });
    await eventually(
      'the reply',
      async () => (await workspace.call('GET', `/messages/${reply.id}`)).body.sentAt,
    );
    const got = (await flotilla.ledger()).filter(({ to }) => to === last).map(({ text }) => text);
    expect(got).toEqual(['As you wish.']);
    expect(await suppressionsOf(people[0]!)).toEqual([]);
    const report = (await workspace.call('GET', `/campaigns/${next}/report.csv`)).body;
    expect(report).toContain(`${last},cancelled,"The person gets no campaigns`);
    const events = await workspace.events(['suppression.added'], 1, ({ to }) => to === last);
    expect(events[0]!.data).toMatchObject({ id: suppressed.id, source: 'reply', workspaceId: workspace.id });

    await says(last, 'START');
    await eventually('no longer suppressed', async () => (await suppressionsOf(last)).length === 0);
    const third = await newCampaign();
    await upload(third, csvOf([last], 'I'));
    await workspace.call('POST', `/campaigns/${third}/start`);
    await untilStatus(third, 'completed');
    expect(await ledgerOf('I')).toHaveLength(1);
  });

  it('who says more than STOP has answered: the campaign counts it', async () => {
    const [person] = await newPhones(1);
    const id = await newCampaign();
    await upload(id, csvOf([person!], 'R'));
    await workspace.call('PATCH', `/campaigns/${id}`, { accountIds: [accountIds()[0]] });
    await workspace.call('POST', `/campaigns/${id}/start`);
    await eventually('arrived', async () => (await ledgerOf('R')).length === 1);
    await says(person!, 'stop by at five');
    await says(person!, 'or at six');
    const answered = await eventually('answered', async () => {
      const campaign = await get(id);
      return campaign.counts.replied > 0 && campaign.status === 'completed' && campaign;
    });
    expect(answered.counts).toMatchObject({ total: 1, replied: 1 });
    expect((await recipientOf(id, person!)).repliedAt).not.toBeNull();
    expect(await suppressionsOf(person!)).toEqual([]);
    const [header, line] = (await workspace.call('GET', `/campaigns/${id}/report.csv`)).body.split('\r\n');
    expect(line.split(',')[header.split(',').indexOf('repliedAt')]).toMatch(/^2\d{3}-/);
  });

  it('who hides the number opts out by it, and both of its forms count', async () => {
    const phone = await flotilla.newPhone();
    await flotilla.sandbox('PATCH', `/phones/${phone}`, { hidesNumber: true });
    const only = { accountIds: [accountIds()[0]] };
    const first = await newCampaign(only);
    await upload(first, csvOf([phone], 'H'));
    await workspace.call('POST', `/campaigns/${first}/start`);
    await untilStatus(first, 'completed');
    await says(phone, 'Stop');
    const { messageId } = await untilSuppressed(phone);
    const { participant } = (await workspace.call('GET', `/messages/${messageId}`)).body;
    for (const form of [phone, participant.lid]) {
      const id = await newCampaign(only);
      await upload(id, csvOf([form], 'J'));
      await workspace.call('POST', `/campaigns/${id}/start`);
      expect((await untilStatus(id, 'completed')).counts).toMatchObject({ total: 1, cancelled: 1 });
    }
    expect((await get(first)).counts).toMatchObject({ replied: 1 });
  });

  it('keeps a list that goes out and in again, and is nobody else’s', async () => {
    const [one, two, three] = await newPhones(3);
    const list = `Nomor HP;Reason\n+${one};asked by phone\n${two};"=1+1, she says"\n0812;\n`;
    const headers = { 'content-type': 'text/csv' };
    const send = (tenant: Workspace, body: string) =>
      tenant.call('POST', '/suppressions/import', body, headers);
    const loaded = await send(workspace, list);
    expect(loaded.body, JSON.stringify(loaded.body)).toMatchObject({
      accepted: 2,
      duplicates: 0,
      invalidCount: 1,
    });
    expect(loaded.body.invalid[0]).toMatchObject({ line: 4, column: 'Nomor HP', to: '0812' });
    expect((await send(workspace, list)).body).toMatchObject({ accepted: 0, duplicates: 2 });
    const added = await workspace.call('POST', '/suppressions', { to: `+${three}`, reason: 'a complaint' });
    const again = await workspace.call('POST', '/suppressions', { to: three, reason: 'another' });
    expect([added.status, again.body]).toEqual([200, added.body]);

    const exported = (await workspace.call('GET', '/suppressions/export.csv')).body;
    expect(exported).toContain(`${three},a complaint,manual,`);
    const other = await flotilla.newWorkspace('other');
    expect((await other.call('GET', '/suppressions')).body.items).toEqual([]);
    expect((await other.call('DELETE', `/suppressions/${added.body.id}`)).body.code).toBe(
      'suppression.not_found',
    );
    const { body: copied } = await send(other, exported);
    expect(copied).toMatchObject({ accepted: exported.trim().split('\r\n').length - 1, invalidCount: 0 });
    expect((await other.call('GET', `/suppressions?to=${two}`)).body.items[0]).toMatchObject({
      source: 'import',
      reason: "'=1+1, she says",
    });

    expect((await workspace.call('DELETE', `/suppressions/${added.body.id}`)).status).toBe(204);
    expect(await suppressionsOf(three!)).toEqual([]);
    expect((await other.call('GET', `/suppressions?to=${three}`)).body.items).toHaveLength(1);
    const json = JSON.stringify({ recipients: [{ to: three, reason: 'once more' }] });
    const byJson = await workspace.call('POST', '/suppressions/import', json, {
      'content-type': 'application/json',
    });
    expect(byJson.body).toMatchObject({ accepted: 1 });
  });

  it('knows the words of the workspace', async () => {
    const [person] = await newPhones(1);
    const wrong = await workspace.call('PATCH', '/workspace', { optOutWords: ['…'] });
    expect([wrong.status, wrong.body.code]).toEqual([400, 'validation.failed']);
    const changed = await workspace.call('PATCH', '/workspace', { optOutWords: ['Kein Interesse'] });
    expect(changed.body.optOutWords).toEqual(['Kein Interesse']);
    // The instance keeps the words of a workspace for a while.
    await eventually(
      'suppressed',
      async () => {
        await says(person!, 'kein interesse.');
        return (await suppressionsOf(person!)).length === 1;
      },
      15_000,
    );
    expect((await workspace.call('PATCH', '/workspace', { optOutWords: null })).body.optOutWords).toBeNull();
  });
});
