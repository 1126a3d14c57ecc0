import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { projectRoot } from '../../src/platform/config/config.js';
import { runCli } from '../support/commands.js';

it('docs/openapi.json is what the code says', async () => {
  const { stdout } = await runCli(['openapi:generate', '--output', '-'], process.env);
  const kept = await readFile(join(projectRoot, 'docs/openapi.json'), 'utf8');
  const cure = 'it is not what the code says: run npm run openapi, look at the difference, and commit it';
  expect(stdout === kept, cure).toBe(true);
});
