import { type Command, InvalidArgumentError } from 'commander';
import { print, printAside, printList, type RunWithServices, wholeNumber } from '../platform/command-line.js';

/** `webhook:list`, `webhook:failed`, `webhook:retry`. */
export function addWebhooksCommands(program: Command, run: RunWithServices): void {
  program
    .command('webhook:list')
    .description('list the webhooks of all workspaces, and how many deliveries of each wait or are dead')
    .option('--workspace <id>', 'only the webhooks of this workspace', toId)
    .option('--limit <count>', 'at most this many', wholeNumber(1, 10_000), 200)
    .option('--json', 'as JSON')
    .addHelpText('after', '\nExample:\n  flotilla webhook:list')
    .action(({ workspace, limit, json }: { workspace?: string; limit: number; json?: boolean }) =>
      run(async (services) => {
        const { WebhooksService } = await import('./webhooks.service.js');
        const webhooks = await services.get(WebhooksService).listAll(limit, workspace);
        await printList(webhooks, {
          json,
          none: 'No webhooks.',
          head: ['ID', 'Workspace', 'URL', 'Status', 'Waiting', 'Dead'],
          row: (webhook) => [
            webhook.id,
            webhook.workspaceId,
            webhook.url,
            statusOf(webhook),
            webhook.open,
            webhook.dead,
          ],
        });
      }),
    );

  program
    .command('webhook:failed')
    .description('list the dead deliveries, the newest first')
    .option('--webhook <id>', 'only the deliveries of this webhook', toId)
    .option('--limit <count>', 'at most this many', wholeNumber(1, 10_000), 50)
    .option('--json', 'as JSON')
    .addHelpText('after', '\nExample:\n  flotilla webhook:failed --limit 10')
    .action(({ webhook, limit, json }: { webhook?: string; limit: number; json?: boolean }) =>
      run(async (services) => {
        const { WebhookDeliveriesService } = await import('./webhook-deliveries.service.js');
        const dead = await services.get(WebhookDeliveriesService).listDead(limit, webhook);
        await printList(dead, {
          json,
          none: 'No dead deliveries.',
          head: ['ID', 'Webhook', 'Type', 'Tries', 'Last try', 'Error'],
          row: (delivery) => [
            delivery.id,
            delivery.webhookId,
            delivery.type,
            delivery.attempts,
            delivery.lastAttemptAt?.toISOString().slice(0, 19).replace('T', ' ') ?? null,
            delivery.error?.slice(0, 80) ?? null,
          ],
        });
      }),
    );

  program
    .command('webhook:retry <ids...>')
    .description('try dead deliveries again: by id, or all')
    .option('--webhook <id>', 'with all: only the deliveries of this webhook', toId)
    .addHelpText(
      'after',
      `
Each delivery starts again with its first attempt, under the same Webhook-Id.

Examples:
  flotilla webhook:retry 019a1b2c-3d4e-7f00-8000-0123456789ab
  flotilla webhook:retry all --webhook 019a1b2c-3d4e-7f00-8000-0123456789ac`,
    )
    .action((ids: string[], { webhook }: { webhook?: string }) =>
      run(async (services) => {
        const { WebhookDeliveriesService } = await import('./webhook-deliveries.service.js');
        const deliveries = services.get(WebhookDeliveriesService);
        if (ids.length === 1 && ids[0] === 'all') {
          const count = await deliveries.retryAll(webhook);
          print(count === 0 ? 'No dead deliveries.' : `Trying ${count} deliveries again.`);
          return;
        }
        if (webhook) throw new Error('--webhook needs "all": flotilla webhook:retry all --webhook ID.');
        for (const id of ids.map(toId)) {
          if (await deliveries.retry(id)) print(`${id}  trying again`);
          else {
            printAside(`${id}  is not a dead delivery. "flotilla webhook:failed" lists the dead deliveries.`);
            process.exitCode = 1;
          }
        }
      }),
    );
}

function statusOf(webhook: { isEnabled: boolean; disabledReason: string | null; failingSince: Date | null }) {
  if (!webhook.isEnabled) return `disabled (${webhook.disabledReason})`;
  return webhook.failingSince ? `failing since ${webhook.failingSince.toISOString().slice(0, 16)}` : 'works';
}

function toId(text: string): string {
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) return text;
  throw new InvalidArgumentError('It must be an id, such as 019a1b2c-3d4e-7f00-8000-0123456789ab.');
}
