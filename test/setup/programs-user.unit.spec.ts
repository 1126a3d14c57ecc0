import { chmodSync, linkSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { prepareProgramsUser, userNamed } from '../../setup/programs-user.mjs';
import { readSettings } from '../../setup/settings.mjs';

const isRoot = process.getuid?.() === 0;
let project: string;

function write(path: string, mode = 0o600): string {
  const file = join(project, path);
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(file, 'SANDBOX=true\n', { mode });
  return file;
}

/** No program opens a browser here. */
const prepare = (environment: Record<string, string> = {}) =>
  prepareProgramsUser(
    readSettings({ project, environment: { PROGRAMS: 'api', SANDBOX: 'true', ...environment } }),
  );

beforeEach(() => {
  project = mkdtempSync(join(tmpdir(), 'flotilla-user-'));
  chmodSync(project, 0o755);
  write('dist/programs/cli.mjs', 0o644);
  write('node_modules/whatsapp-web.js/package.json', 0o644);
  mkdirSync(join(project, 'var'));
});
afterEach(() => rmSync(project, { recursive: true, force: true }));

it('the programs of root get a user of their own, with the files that programs of root have left; others stay', async () => {
  const settings = write('.env');
  const left = [write('var/sessions/session-1/Default/Preferences'), write('media/ab/file')];
  const stranger = write('stranger');
  linkSync(stranger, join(project, 'var/sessions/session-1/link'));
  const { user, home, uid, warning } = await prepare({ MEDIA_PATH: 'media' });
  expect(warning).toBeUndefined();
  const owners = () =>
    [...left, join(left[0]!, '..'), join(project, 'media')].map((path) => statSync(path).uid);
  if (!isRoot) {
    expect(uid).toBeUndefined();
    expect(new Set(owners())).toEqual(new Set([process.getuid!()]));
    return;
  }
  expect([user, home, uid]).toEqual(['flotilla', join(project, 'var/home'), userNamed('flotilla')!.uid]);
  expect(new Set(owners())).toEqual(new Set([uid]));
  expect([statSync(stranger).uid, statSync(join(project, 'var')).uid]).toEqual([0, 0]);
  const { mode, uid: owner, gid } = statSync(settings);
  expect([mode & 0o777, owner, gid]).toEqual([0o640, 0, userNamed('flotilla')!.gid]);
  // A program of root has written there again.
  write('var/sessions/session-2/Default/Preferences');
  await prepare();
  expect(statSync(join(project, 'var/sessions/session-2/Default/Preferences')).uid).toBe(uid);
});

it('what keeps browsers from their sandbox is named with its cure, and BROWSER_SANDBOX decides what follows', async () => {
  chmodSync(project, 0o700);
  if (!isRoot) {
    expect(await prepare({ BROWSER_SANDBOX: 'off' })).toMatchObject({ browserSandbox: 'off' });
    return;
  }
  expect(await prepare()).toMatchObject({
    user: 'root',
    browserSandbox: 'off',
    warning: expect.stringMatching(/cannot read .*cli\.mjs\. Move Flotilla to .*rights of the user root/),
  });
  await expect(prepare({ BROWSER_SANDBOX: 'on' })).rejects.toThrow(/cannot read.*BROWSER_SANDBOX=auto/);
  expect(() => readSettings({ project, environment: { BROWSER_SANDBOX: 'yes' } })).toThrow('auto, on, off');
  chmodSync(project, 0o755);
  await expect(prepare({ PORT: '80' })).rejects.toThrow(/PORT is 80.*ip_unprivileged_port_start=80/);
});
