import { mkdir, readFile, readlink, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** What a browser leaves in its profile to keep others out; a killed one does not remove it. */
const lockFiles = ['SingletonLock', 'SingletonSocket', 'SingletonCookie'];

/** How long an old browser may take to end after it was killed. */
const endMs = 5_000;

/** Where the profile of an account lies: its credentials, and so its session. */
export function profileDir(sessionsDir: string, accountId: string): string {
  return join(sessionsDir, `session-${accountId}`);
}

/**
 * Makes a profile ready for a new browser: ends one that a dead instance left behind and removes its stale lock. Only the
 * instance that owns the account may call this. A process is ended only when it still runs with this very profile.
 */
export async function claimProfile(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const holder = await holderOf(dir);
  if (holder !== null) await endProcessGroup(holder, dir);
  await Promise.all(lockFiles.map((name) => rm(join(dir, name), { force: true })));
}

/** Deletes the credentials of an account. Only for a confirmed logout or a deleted account. */
export async function deleteProfile(sessionsDir: string, accountId: string): Promise<void> {
  await rm(profileDir(sessionsDir, accountId), {
    recursive: true,
    force: true,
    maxRetries: 5,
    retryDelay: 200,
  });
}

/** The process that holds the profile's lock (`SingletonLock` links to `host-pid`), when it is alive. */
async function holderOf(dir: string): Promise<number | null> {
  const target = await readlink(join(dir, 'SingletonLock')).catch(() => null);
  const pid = Number(/-(\d+)$/.exec(target ?? '')?.[1]);
  return pid > 0 && (await runsWith(pid, dir)) ? pid : null;
}

async function runsWith(pid: number, dir: string): Promise<boolean> {
  const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return commandLine.includes(`--user-data-dir=${dir}`);
}

async function endProcessGroup(pid: number, dir: string): Promise<void> {
  killGroup(pid);
  const deadline = Date.now() + endMs;
  while ((await runsWith(pid, dir)) && Date.now() < deadline) await delay(50);
}

/** Ends a browser with all of its helpers: puppeteer makes it the leader of its own process group. */
export function killGroup(pid: number): void {
  for (const target of [-pid, pid]) {
    try {
      process.kill(target, 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}
