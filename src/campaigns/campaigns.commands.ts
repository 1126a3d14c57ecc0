import { type Command, InvalidArgumentError, Option } from 'commander';
import {
  confirm,
  print,
  printAside,
  printJson,
  printList,
  type RunWithServices,
  wholeNumber,
} from '../platform/command-line.js';
import type { CampaignResponse } from './campaigns.dto.js';
import { type ResumeKind, resumeKinds } from './campaign-statuses.js';
import type { ListFormat } from './lists/read-list.js';

/** How often `--watch` looks, in milliseconds. */
const watchEveryMs = 1_000;
const formats: Record<string, ListFormat> = {
  csv: 'csv',
  tsv: 'csv',
  txt: 'csv',
  ndjson: 'ndjson',
  jsonl: 'ndjson',
  json: 'json',
  xlsx: 'xlsx',
};

interface CreateOptions {
  workspace: string;
  account: string[];
  text: string;
  file?: string;
  column?: string;
  sheet?: string;
  country?: string;
  startAt?: string;
  json?: boolean;
}

/** `campaign:list`, `:create`, `:load`, `:start`, `:pause`, `:resume`, `:cancel`, `:status`, `:report`. */
export function addCampaignsCommands(program: Command, run: RunWithServices): void {
  const workspace = (command: Command) =>
    command.requiredOption('--workspace <id>', 'the workspace of the campaign', toId);

  workspace(program.command('campaign:list'))
    .description('list the campaigns of a workspace, newest first')
    .option('--limit <count>', 'at most this many', wholeNumber(1, 200), 50)
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  flotilla campaign:list --workspace 019a1b2c-3d4e-7f00-8000-0123456789ab',
    )
    .action(({ workspace: id, limit, json }: { workspace: string; limit: number; json?: boolean }) =>
      run(async (services) => {
        const campaigns = await servicesOf(services);
        const rows = (await campaigns.service.list(id, { limit })).slice(0, limit);
        await printList(await Promise.all(rows.map(campaigns.answer)), {
          json,
          none: 'No campaigns. Create one: flotilla campaign:create NAME',
          head: ['Id', 'Name', 'Status', 'Recipients', 'Sent', 'Failed'],
          row: ({ id: campaignId, name, status, counts }) => [
            campaignId,
            name,
            status,
            counts.total,
            counts.sent + counts.delivered + counts.read,
            counts.failed,
          ],
        });
      }),
    );

  workspace(program.command('campaign:create <name>'))
    .description('create a campaign, and load its list')
    .requiredOption('--account <ids...>', 'the accounts that send')
    .requiredOption('--text <template>', 'the text, for example "Hello {{name|friend}}"')
    .option('--file <path>', 'the list: .csv, .xlsx, .ndjson or .json')
    .option('--column <name>', 'the column of the phone numbers, if its name is not a usual one')
    .option('--sheet <name>', 'the sheet of an XLSX file')
    .option('--country <code>', 'the country of numbers without a country code, for example ID')
    .option('--start-at <time>', 'when it starts after campaign:start, for example 2026-12-24T08:00:00Z')
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      `
The campaign is a draft. campaign:start starts it.

Example:
  flotilla campaign:create "Spring sale" --workspace 019a1b2c-3d4e-7f00-8000-0123456789ab \\
    --account 019a1b2c-3d4e-7f00-8000-0123456789ac --text "Hello {{name|friend}}" --file list.csv --country ID`,
    )
    .action((name: string, options: CreateOptions) =>
      run(async (services) => {
        const campaigns = await servicesOf(services);
        const { account: accountIds, text, country, startAt } = options;
        const wanted = await campaigns.validated({
          name,
          accountIds,
          message: { text },
          ...(country ? { country } : {}),
          ...(startAt ? { startAt } : {}),
        });
        const campaign = await campaigns.service.create(options.workspace, wanted);
        if (options.file !== undefined)
          await campaigns.load(campaign.id, options.workspace, options.file, options);
        const answer = await campaigns.find(options.workspace, campaign.id);
        if (options.json) printJson(answer);
        else print(`${answer.id}  ${answer.name}: ${answer.counts.total} recipients`);
      }),
    );

  workspace(program.command('campaign:load <id> <file>'))
    .description('add the recipients of a list: .csv, .xlsx, .ndjson or .json')
    .option('--column <name>', 'the column of the phone numbers, if its name is not a usual one')
    .option('--sheet <name>', 'the sheet of an XLSX file')
    .addHelpText(
      'after',
      '\nThe same list again adds nothing.\n\nExample:\n  flotilla campaign:load 019a1b2c-3d4e-7f00-8000-0123456789ad list.xlsx --workspace 019a1b2c-3d4e-7f00-8000-0123456789ab',
    )
    .action((id: string, file: string, options: { workspace: string; column?: string; sheet?: string }) =>
      run(async (services) => (await servicesOf(services)).load(toId(id), options.workspace, file, options)),
    );

  const act = (name: 'start' | 'pause', description: string) =>
    workspace(program.command(`campaign:${name} <id>`))
      .description(description)
      .action((id: string, options: { workspace: string }) =>
        run(async (services) => {
          const campaigns = await servicesOf(services);
          await campaigns.service[name](options.workspace, toId(id));
          print(lineOf(await campaigns.find(options.workspace, id)));
        }),
      );
  act('start', 'start a draft, or schedule it if its start is later');
  act('pause', 'pause a campaign: no further message of it begins to be sent');

  workspace(program.command('campaign:resume <id>'))
    .description('go on with a paused campaign')
    .addOption(
      new Option('--which <which>', 'pending: who waits; failed: also who could not get it; all: both')
        .choices(resumeKinds)
        .default('pending'),
    )
    .action((id: string, options: { workspace: string; which: ResumeKind }) =>
      run(async (services) => {
        const campaigns = await servicesOf(services);
        await campaigns.service.resume(options.workspace, toId(id), { which: options.which });
        print(lineOf(await campaigns.find(options.workspace, id)));
      }),
    );

  workspace(program.command('campaign:cancel <id>'))
    .description('cancel a campaign: whoever has not got the message gets none')
    .option('--force', 'do not ask')
    .action((id: string, options: { workspace: string; force?: boolean }) =>
      run(async (services) => {
        const campaigns = await servicesOf(services);
        const { name, counts } = await campaigns.find(options.workspace, toId(id));
        if (
          !options.force &&
          !(await confirm(`Cancel "${name}"? ${counts.queued} recipients get nothing then.`))
        )
          return;
        await campaigns.service.cancel(options.workspace, id);
        print(lineOf(await campaigns.find(options.workspace, id)));
      }),
    );

  workspace(program.command('campaign:status <id>'))
    .description('show how far a campaign is')
    .option('--watch', 'until it ends, with a progress bar')
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  flotilla campaign:status 019a1b2c-3d4e-7f00-8000-0123456789ad --workspace 019a1b2c-3d4e-7f00-8000-0123456789ab --watch',
    )
    .action((id: string, options: { workspace: string; watch?: boolean; json?: boolean }) =>
      run(async (services) => {
        const campaigns = await servicesOf(services);
        const find = () => campaigns.find(options.workspace, toId(id));
        if (options.watch) await watch(find);
        const campaign = await find();
        if (options.json) printJson(campaign);
        else print(lineOf(campaign));
      }),
    );

  workspace(program.command('campaign:report <id>'))
    .description('print all recipients as CSV, with what became of each')
    .option('--invalid', 'the invalid lines of the lists instead, each with its reason')
    .addHelpText(
      'after',
      '\nExample:\n  flotilla campaign:report 019a1b2c-3d4e-7f00-8000-0123456789ad --workspace 019a1b2c-3d4e-7f00-8000-0123456789ab > report.csv',
    )
    .action((id: string, options: { workspace: string; invalid?: boolean }) =>
      run(async (services) =>
        (await servicesOf(services)).report(options.workspace, toId(id), options.invalid ?? false),
      ),
    );
}

/** What the commands do with campaigns. Loaded when a command runs, so that --help is fast. */
async function servicesOf(services: Parameters<Parameters<RunWithServices>[0]>[0]) {
  const [
    { CampaignsService },
    { RecipientsService },
    dtos,
    { createReadStream },
    { fieldErrors, toDto },
    { validate },
  ] = await Promise.all([
    import('./campaigns.service.js'),
    import('./recipients.service.js'),
    import('./campaigns.dto.js'),
    import('node:fs'),
    import('../platform/http/validation.js'),
    import('class-validator'),
  ]);
  const service = services.get(CampaignsService);
  const recipients = services.get(RecipientsService);
  const answer = async (campaign: Awaited<ReturnType<typeof service.get>>): Promise<CampaignResponse> =>
    dtos.toCampaignResponse(Object.assign(campaign, await service.pace(campaign)));
  return {
    service,
    answer,
    find: async (workspace: string, id: string) => answer(await service.get(workspace, id)),
    async validated(wanted: object) {
      const dto = toDto(dtos.CreateCampaignDto, wanted);
      const [first] = (await validate(dto)).flatMap((error) => fieldErrors(error));
      if (first) throw new Error(`${first.path} ${first.message}.`);
      return dto;
    },
    async load(
      id: string,
      workspace: string,
      file: string,
      { column, sheet }: { column?: string; sheet?: string },
    ) {
      const format = formats[file.split('.').at(-1)!.toLowerCase()];
      if (!format)
        throw new Error(
          `${file} is not a list that is known: use a file that ends in .csv, .xlsx, .ndjson or .json.`,
        );
      const campaign = await service.get(workspace, id);
      const loaded = await recipients.load(campaign, createReadStream(file), {
        format,
        ...(column ? { columns: { to: column } } : {}),
        sheet: sheet ?? null,
      });
      printAside(
        `${loaded.accepted} new recipients, ${loaded.duplicates} duplicates, ${loaded.invalidCount} invalid lines`,
      );
      for (const { line, column: name, to, message } of loaded.invalid)
        printAside(`  line ${line}: ${name} ${to} ${message}`);
      if (loaded.invalidCount > loaded.invalid.length)
        printAside(
          `  … and ${loaded.invalidCount - loaded.invalid.length} more: flotilla campaign:report ${id} --invalid`,
        );
    },
    async report(workspace: string, id: string, isInvalid: boolean) {
      const [{ reportCsv }, { invalidCsv }] = await Promise.all([
        import('./report-csv.js'),
        import('./lists/invalid-csv.js'),
      ]);
      const campaign = await service.get(workspace, id);
      const parts = isInvalid
        ? invalidCsv(campaign.columns, recipients.invalidLines(campaign))
        : reportCsv(campaign.columns, recipients.report(campaign));
      for await (const part of parts) process.stdout.write(part);
    },
  };
}

/** Shows a progress bar until the campaign ends or stops. */
async function watch(find: () => Promise<CampaignResponse>): Promise<void> {
  const [{ SingleBar, Presets }, { setTimeout: delay }] = await Promise.all([
    import('cli-progress'),
    import('node:timers/promises'),
  ]);
  const bar = new SingleBar(
    { format: '{bar} {value}/{total} · {rate}/min · {rest}', stream: process.stderr },
    Presets.shades_classic,
  );
  let campaign = await find();
  bar.start(campaign.counts.total, 0, { rate: 0, rest: '' });
  for (;;) {
    const { counts, ratePerMinute, etaSeconds, status } = campaign;
    const rest = etaSeconds === null ? status : `${Math.ceil(etaSeconds / 60)} min left`;
    bar.setTotal(counts.total);
    bar.update(counts.total - counts.queued - counts.sending, { rate: ratePerMinute, rest });
    if (status !== 'running' && status !== 'scheduled') break;
    await delay(watchEveryMs);
    campaign = await find();
  }
  bar.stop();
}

function lineOf({
  id,
  name,
  status,
  pauseReason,
  counts,
  ratePerMinute,
  etaSeconds,
}: CampaignResponse): string {
  const { total, queued, sending, sent, delivered, read, failed, unknown, cancelled } = counts;
  const state = pauseReason ? `${status} (${pauseReason})` : status;
  const rest =
    etaSeconds === null ? '' : `, about ${Math.ceil(etaSeconds / 60)} min left at ${ratePerMinute}/min`;
  return `${id}  ${name}: ${state}, ${total} recipients: ${queued} queued, ${sending} sending, ${sent} sent, ${delivered} delivered, ${read} read, ${failed} failed, ${unknown} unknown, ${cancelled} cancelled${rest}`;
}

function toId(text: string): string {
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) return text;
  throw new InvalidArgumentError('It must be an id, such as 019a1b2c-3d4e-7f00-8000-0123456789ab.');
}
