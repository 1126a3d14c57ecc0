import { expect, it } from 'vitest';
import { readSchema } from '../schema.js';
import { scratchDatabase } from '../support/scratch-database.js';

it('docs/schema.sql matches the migrations; "npm run schema" writes it', async () => {
  const { config, drop } = await scratchDatabase();
  try {
    await expect(await readSchema(config.database.url)).toMatchFileSnapshot('../../docs/schema.sql');
  } finally {
    await drop();
  }
});
