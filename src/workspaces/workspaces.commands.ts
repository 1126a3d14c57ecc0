import { type Command, InvalidArgumentError } from 'commander';
import { print, printAside, printList, type RunWithServices, wholeNumber } from '../platform/command-line.js';
import { keyRoles, type KeyRole } from './api-key.entity.js';

interface NewKeyOptions {
  role: KeyRole;
  expires?: string;
  ip?: string[];
}

/** `workspace:list`, `workspace:create`, `api-key:list`, `api-key:create`, `api-key:rotate`, `api-key:delete`. */
export function addWorkspacesCommands(program: Command, run: RunWithServices): void {
  program
    .command('workspace:list')
    .description('list the workspaces, newest first')
    .option('--limit <count>', 'maximum number of workspaces, 1 to 200', wholeNumber(1, 200), 50)
    .option('--json', 'print JSON')
    .action(({ limit, json }: { limit: number; json?: boolean }) =>
      run(async (services) => {
        const [{ WorkspacesService }, { toWorkspaceResponse }] = await Promise.all([
          import('./workspaces.service.js'),
          import('./workspaces.dto.js'),
        ]);
        const rows = (await services.get(WorkspacesService).list({ limit })).slice(0, limit);
        await printList(rows.map(toWorkspaceResponse), {
          json,
          none: 'No workspaces. Create one: flotilla workspace:create NAME',
          head: ['Id', 'Name', 'Created'],
          row: ({ id, name, createdAt }) => [id, name, createdAt],
        });
      }),
    );

  program
    .command('workspace:create <name>')
    .description('create a workspace, and print its id')
    .action((name: string) =>
      run(async (services) => {
        const [{ WorkspacesService }, { CreateWorkspaceDto }] = await Promise.all([
          import('./workspaces.service.js'),
          import('./workspaces.dto.js'),
        ]);
        const wanted = await validated(CreateWorkspaceDto, { name });
        const { id } = await services.get(WorkspacesService).create(wanted);
        print(id);
        await audit(services, 'workspace:create', id, id);
      }),
    );

  program
    .command('api-key:list <workspace>')
    .description('list the API keys of a workspace, newest first')
    .option('--limit <count>', 'maximum number of keys, 1 to 200', wholeNumber(1, 200), 50)
    .option('--json', 'print JSON')
    .action((workspace: string, { limit, json }: { limit: number; json?: boolean }) =>
      run(async (services) => {
        const [{ ApiKeysService }, { toApiKeyResponse }] = await Promise.all([
          import('./api-keys.service.js'),
          import('./api-keys.dto.js'),
        ]);
        const rows = await services.get(ApiKeysService).list(uuid(workspace), { limit });
        const keys = rows.slice(0, limit).map(toApiKeyResponse);
        await printList(keys, {
          json,
          none: `No keys. Create one: flotilla api-key:create ${workspace} NAME`,
          head: ['Id', 'Key', 'Name', 'Role', 'Expires', 'Last used', 'Addresses'],
          row: (key) => [
            key.id,
            `${key.prefix}…`,
            key.name,
            key.role,
            key.expiresAt,
            key.lastUsedAt,
            key.allowedIps?.join('\n') ?? 'any',
          ],
        });
      }),
    );

  program
    .command('api-key:create <workspace> <name>')
    .description('create an API key, and print it; it is shown only once')
    .option('--role <role>', keyRoles.join(', '), role, 'owner' as KeyRole)
    .option('--expires <time>', 'when the key expires, for example 2027-01-31T12:00:00Z')
    .option('--ip <range...>', 'IP addresses or CIDR ranges that may use the key')
    .action((workspace: string, name: string, options: NewKeyOptions) =>
      run(async (services) => {
        const [{ ApiKeysService }, { CreateApiKeyDto }] = await Promise.all([
          import('./api-keys.service.js'),
          import('./api-keys.dto.js'),
        ]);
        const { role: asRole, expires: expiresAt, ip: allowedIps } = options;
        const wanted = await validated(CreateApiKeyDto, { name, role: asRole, expiresAt, allowedIps });
        const { row, key } = await services.get(ApiKeysService).create(uuid(workspace), wanted);
        print(key);
        await audit(services, 'api-key:create', workspace, row.id);
      }),
    );

  program
    .command('api-key:rotate <workspace> <key>')
    .description('replace a key, named by its id, and print the new key; it is shown only once')
    .option('--grace <seconds>', 'how long the old key still works', wholeNumber(0, 604_800), 0)
    .action((workspace: string, keyId: string, { grace }: { grace: number }) =>
      run(async (services) => {
        const { ApiKeysService } = await import('./api-keys.service.js');
        const wanted = { graceSeconds: grace };
        const { row, key } = await services.get(ApiKeysService).rotate(uuid(workspace), uuid(keyId), wanted);
        printAside(`The new key has the id ${row.id}.`);
        print(key);
        await audit(services, 'api-key:rotate', workspace, keyId);
      }),
    );

  program
    .command('api-key:delete <workspace> <key>')
    .description('delete an API key, named by its id; it stops working at once')
    .action((workspace: string, keyId: string) =>
      run(async (services) => {
        const { ApiKeysService } = await import('./api-keys.service.js');
        await services.get(ApiKeysService).delete(uuid(workspace), uuid(keyId));
        print(`The key ${keyId} is deleted.`);
        await audit(services, 'api-key:delete', workspace, keyId);
      }),
    );
}

/** Validates values as the API does. @throws Error with the name of the wrong field */
async function validated<Dto extends object>(shape: new () => Dto, values: Dto): Promise<Dto> {
  const [{ plainToInstance }, { validate }] = await Promise.all([
    import('class-transformer'),
    import('class-validator'),
  ]);
  const wanted = plainToInstance(shape, values);
  const [wrong] = await validate(wanted, { stopAtFirstError: true });
  if (wrong) throw new Error(`${wrong.property}: ${Object.values(wrong.constraints ?? {}).join(', ')}.`);
  return wanted;
}

/** Writes a command to the audit log, as requests are. The actor is the admin, because only an operator can run commands. */
async function audit(
  services: Parameters<Parameters<RunWithServices>[0]>[0],
  route: string,
  workspaceId: string,
  targetId: string,
): Promise<void> {
  const { AuditLog } = await import('./audit-log.js');
  const done = { actor: 'admin', ip: 'cli', method: 'CLI', status: 200 } as const;
  await services.get(AuditLog).write({ ...done, route, workspaceId, targetId });
}

function role(text: string): KeyRole {
  const found = keyRoles.find((name) => name === text);
  if (!found) throw new InvalidArgumentError(`The role must be one of ${keyRoles.join(', ')}.`);
  return found;
}

function uuid(text: string): string {
  if (/^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i.test(text)) return text;
  throw new Error(`${text} is not an id. workspace:list and api-key:list show the ids.`);
}
