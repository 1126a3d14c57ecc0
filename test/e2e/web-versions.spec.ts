import { expect, it } from 'vitest';
import { canary } from '../../bench/canary.mjs';

it('stops only the canary when WhatsApp releases a broken version, and gives the mended version to all', async () => {
  const lines: string[] = [];
  const log = (line: string) => lines.push(line);
  const result = await canary({ accounts: 3, messages: 60, log }).catch((error: unknown) => {
    throw new Error(`${String(error)}\n${lines.join('\n')}`, { cause: error });
  });
  const { stopped, canary: chosen, good } = result;
  expect(result).toMatchObject({ lost: 0, doubled: 0, failed: 0, unknown: 0 });
  expect(stopped).toEqual([chosen]);
  expect(result.held).toBeGreaterThan(0);
  expect(result.versionsOfOthers).toEqual([good]);
  expect(result.refused).toMatchObject({ reason: expect.stringContaining('WAWebSendMsgChatAction') });
  expect(result.passed).toEqual({ version: result.refused.version, status: 'good', isSelfTested: true });
}, 300_000);
