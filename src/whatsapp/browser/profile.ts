import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { endBrowsersOn } from './processes.js';

/** The lock of a browser in its profile. A killed browser does not remove it. */
const lockFiles = ['SingletonLock', 'SingletonSocket', 'SingletonCookie'];

/** How long an old browser may take to end after it was killed. */
const endMs = 5_000;

/** The directory of an account's profile, which holds its credentials: its session. */
export function profileDir(sessionsDir: string, accountId: string): string {
  return join(sessionsDir, `session-${accountId}`);
}

/**
 * Makes a profile ready for a new browser: ends a browser that a dead instance left behind, and removes its stale lock. Only
 * the instance that owns the account may call this. Finds the old browser by its command line, because the headless shell
 * makes no lock.
 * @throws if the old browser does not end
 */
export async function claimProfile(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  if (!(await endBrowsersOn(dir, endMs)))
    throw new Error(`An old browser with the profile ${dir} was killed but is still running.`);
  await Promise.all(lockFiles.map((name) => rm(join(dir, name), { force: true })));
}

/** Deletes the credentials of an account. Call this only after a confirmed logout or for a deleted account. */
export async function deleteProfile(sessionsDir: string, accountId: string): Promise<void> {
  await rm(profileDir(sessionsDir, accountId), {
    recursive: true,
    force: true,
    maxRetries: 5,
    retryDelay: 200,
  });
}
