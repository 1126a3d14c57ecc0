import { expect, it } from 'vitest';
import { PacedRefusals } from '../../src/platform/http/paced-refusals.js';

it('the first refusals come at once, the next ones 10 ms apart, and those of another caller do not wait for them', async () => {
  const refusals = new PacedRefusals();
  const order: string[] = [];
  const tell = (caller: string) => refusals.next(caller).then(() => order.push(caller));
  const started = performance.now();
  const many = Array.from({ length: 60 }, () => tell('many'));
  await tell('other');
  expect(order.filter((caller) => caller === 'many').length).toBeLessThan(40);
  await Promise.all(many);
  // 60 refusals: 20 at once, 40 later.
  expect(performance.now() - started).toBeGreaterThan(350);
});
