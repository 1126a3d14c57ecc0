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
    const preflight = await workspace.call('POST', `/campaigns/${next}/preflight`);
    expect(preflight.body).toMatchObject({ reached: 1, leftOut: { suppressed: 1 } });
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

describe('the rules of a campaign', () => {
  it('keeps its pace and its sending times', async () => {
    const window = (from: number, to: number) => {
      const at = (hours: number) => new Date(Date.now() + hours * 3_600_000).toISOString().slice(11, 16);
      return { from: at(from), to: at(to) };
    };
    const id = await newCampaign({
      accountIds: [accounts[0]!.id],
      pacing: { gapSeconds: 0.3, jitter: 0, dailyCap: 3 },
      windows: [window(1, 2)],
      timeZone: 'UTC',
    });
    await upload(id, csvOf(phones.slice(0, 5), 'W'));
    const started = await workspace.call('POST', `/campaigns/${id}/start`);
    expect(started.body).toMatchObject({ status: 'running', timeZone: 'UTC', quietHours: null });
    const running = await workspace.call('PATCH', `/campaigns/${id}`, { windows: null });
    expect([running.status, running.body.code]).toEqual([409, 'campaign.status_conflict']);
    await workspace.call('POST', `/campaigns/${id}/pause`);
    expect(await ledgerOf('W')).toEqual([]);
    const now = window(-1, 1);
    const changed = await workspace.call('PATCH', `/campaigns/${id}`, {
      windows: [now],
      quietHours: window(2, 3),
    });
    expect(changed.body).toMatchObject({
      windows: [now],
      pacing: { gapSeconds: { from: 0.3, to: 0.3 }, dailyCap: 3 },
    });
    await workspace.call('POST', `/campaigns/${id}/resume`);
    const sent = await eventually('three', async () => {
      const entries = await ledgerOf('W');
      return entries.length === 3 && entries;
    });
    const times = sent.map(({ at }) => Date.parse(at)).sort();
    expect(times[1]! - times[0]!).toBeGreaterThanOrEqual(290);
    expect(times[2]! - times[1]!).toBeGreaterThanOrEqual(290);
    expect(await get(id)).toMatchObject({ status: 'running', counts: { queued: 2 } });
    await workspace.call('POST', `/campaigns/${id}/cancel`);

    const never = await workspace.call('POST', '/campaigns', {
      name: 'never',
      accountIds: accountIds(),
      message: { text: 'x' },
      windows: [{ from: '22:00', to: '23:00' }],
      quietHours: { from: '21:00', to: '08:00' },
    });
    expect([never.status, never.body.code]).toEqual([400, 'validation.failed']);
    expect(never.body.errors[0].message).toContain('quiet hours');
  });

  it('is looked at and tried before it starts', async () => {
    const id = await newCampaign();
    await upload(id, csvOf(phones.slice(0, 3), 'F'));
    const preflight = await workspace.call('POST', `/campaigns/${id}/preflight`);
    expect(preflight.body).toMatchObject({ reached: 3, leftOut: { invalid: 0, duplicate: 0 } });
    const test = await workspace.call('POST', `/campaigns/${id}/test`, { to: phones[9] });
    expect([test.status, test.body.text, test.body.campaignId]).toEqual([
      202,
      'Hello Person 0, your code is F-0',
      null,
    ]);
    const own = await workspace.call('POST', `/campaigns/${id}/test`, {
      to: phones[9],
      variables: { code: 'F-own' },
    });
    expect(own.body.text).toBe('Hello friend, your code is F-own');
    await eventually('both sent', async () => (await ledgerOf('F')).length === 2);
    expect((await ledgerOf('F')).map(({ to }) => to)).toEqual([phones[9], phones[9]]);
    const missing = await workspace.call('POST', `/campaigns/${id}/test`, { to: phones[9], variables: {} });
    expect([missing.status, missing.body.errors[0].message]).toEqual([
      400,
      'do not fit: the message has no value for code',
    ]);
    expect(await get(id)).toMatchObject({ status: 'draft', counts: { total: 3, queued: 3, sent: 0 } });
    const poll = await workspace.call('PATCH', `/campaigns/${id}`, {
      message: { type: 'poll', poll: { question: '{{name}}?', options: ['Yes', 'No'] } },
    });
    expect(poll.status, JSON.stringify(poll.body)).toBe(200);
    const asked = await workspace.call('POST', `/campaigns/${id}/test`, { to: phones[9] });
    expect(asked.body).toMatchObject({ type: 'poll', poll: { question: 'Person 0?' } });
  });

  it('compares variants with choices in their texts', async () => {
    const message = (text: string) => ({ text, spin: true });
    const id = await newCampaign({
      message: undefined,
      variants: [
        { share: 3, message: message('{Hello|Hi} {{name}}, V-{{code}} one') },
        { share: 1, message: message('{Hello|Hi} {{name}}, V-{{code}} two') },
      ],
    });
    await upload(id, csvOf(phones.slice(0, 40), 'X'));
    const { items } = (await workspace.call('POST', `/campaigns/${id}/preview`)).body;
    await workspace.call('POST', `/campaigns/${id}/start`);
    await untilStatus(id, 'completed');
    const texts = (await ledgerOf('V-X')).map(({ text }) => text);
    expect(texts).toHaveLength(40);
    for (const { text } of items) expect(texts).toContain(text);
    expect(new Set(texts.map((text) => text.split(' ')[0]))).toEqual(new Set(['Hello', 'Hi']));

    const { body: recipients } = await workspace.call('GET', `/campaigns/${id}/recipients?limit=200`);
    const ofVariant = (variant: string) =>
      recipients.items.filter((item: { variant: string }) => item.variant === variant).length;
    const { body: stats } = await workspace.call('GET', `/campaigns/${id}/stats`);
    expect(stats.funnel).toMatchObject({ sent: 40, failed: 0 });
    expect(stats.failures).toEqual([]);
    expect(stats.variants).toMatchObject([
      { variant: 'A', share: 3, sent: texts.filter((text) => text.endsWith('one')).length },
      { variant: 'B', share: 1, sent: texts.filter((text) => text.endsWith('two')).length },
    ]);
    expect([ofVariant('A'), ofVariant('B')]).toEqual(
      stats.variants.map(({ sent }: { sent: number }) => sent),
    );
    expect(ofVariant('A')).toBeGreaterThan(ofVariant('B'));
    const sum = (parts: { sent: number }[]) => parts.reduce((total, { sent }) => total + sent, 0);
    expect(sum(stats.accounts)).toBe(40);
  });

  it('sends a stored template as it was when the campaign was made', async () => {
    const made = await workspace.call('POST', '/templates', {
      name: 'Welcome',
      message: { text: 'First {{name|friend}} {{code}}' },
    });
    expect([made.status, made.body.version, made.body.requiredVariables]).toEqual([201, 1, ['code']]);
    const path = `/templates/${made.body.id}`;
    const id = await newCampaign({ message: undefined, templateId: made.body.id });
    const changed = await workspace.call('PATCH', path, { message: { text: 'Second {{code}}' } });
    expect(changed.body).toMatchObject({ name: 'Welcome', version: 2, message: { text: 'Second {{code}}' } });
    expect((await workspace.call('PATCH', path, { name: 'Hello' })).body).toMatchObject({
      name: 'Hello',
      version: 2,
    });
    expect(await get(id)).toMatchObject({
      templateId: made.body.id,
      templateVersion: 1,
      message: { text: 'First {{name|friend}} {{code}}' },
    });
    const { body: versions } = await workspace.call('GET', `${path}/versions?limit=1`);
    expect(versions).toMatchObject({ items: [{ version: 2 }], nextCursor: '2' });
    const older = await workspace.call('GET', `${path}/versions?cursor=2`);
    expect(older.body.items).toMatchObject([{ version: 1 }]);
    const second = await newCampaign({ message: undefined, templateId: made.body.id, templateVersion: 2 });
    expect((await get(second)).message.text).toBe('Second {{code}}');
    const none = await workspace.call('PATCH', `/campaigns/${second}`, {
      templateId: made.body.id,
      templateVersion: 3,
    });
    expect([none.status, none.body.code]).toEqual([404, 'template.not_found']);
    const both = await workspace.call('PATCH', `/campaigns/${second}`, {
      templateId: made.body.id,
      message: { text: 'x' },
    });
    expect([both.status, both.body.errors[0].path], JSON.stringify(both.body)).toEqual([400, 'message']);
    expect((await workspace.call('GET', '/templates')).body.items).toHaveLength(1);
    const stranger = await flotilla.newWorkspace();
    expect((await stranger.call('GET', path)).status).toBe(404);
    expect((await workspace.call('DELETE', path)).status).toBe(204);
    expect((await workspace.call('GET', path)).status).toBe(404);
    await upload(id, csvOf(phones.slice(0, 1), 'K'));
    await workspace.call('POST', `/campaigns/${id}/start`);
    await untilStatus(id, 'completed');
    expect((await ledgerOf('K')).map(({ text }) => text)).toEqual(['First Person 0 K-0']);
  });
});
