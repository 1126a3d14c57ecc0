import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import puppeteer from 'puppeteer';
import { expect, it } from 'vitest';
import { loadConfig } from '../../src/platform/config/config.js';
import { argumentsOf, runningProcesses } from '../../src/platform/proc.js';
import { launchOptions } from '../../src/whatsapp/browser/launch.js';

it(
  'a browser has no zygote for helpers without a sandbox, and no GPU process',
  { timeout: 60_000 },
  async () => {
    const profile = await mkdtemp(join(tmpdir(), 'launch-'));
    const { chromiumPath } = loadConfig().sessions;
    const options = launchOptions(chromiumPath!, profile, { kind: 'live', proxyPort: null });
    const browser = await puppeteer.launch(options);
    try {
      const [page] = await browser.pages();
      expect(await page!.evaluate('1 + 1')).toBe(2);
      const group = browser.process()!.pid;
      const members = (await runningProcesses()).filter((status) => status.group === group);
      // A process that a zygote forked has its arguments in one text.
      const commands = await Promise.all(members.map(async ({ pid }) => (await argumentsOf(pid)).join(' ')));
      const zygotes = commands.filter((command) => command.includes(' --type=zygote'));
      expect(zygotes.length).toBeGreaterThan(0);
      // The zygote of helpers without a sandbox has this argument.
      expect(zygotes.filter((command) => command.includes('--no-zygote-sandbox'))).toEqual([]);
      expect(commands.filter((command) => command.includes(' --type=gpu-process'))).toEqual([]);
    } finally {
      await browser.close();
      await rm(profile, { recursive: true, force: true, maxRetries: 5 });
    }
  },
);
