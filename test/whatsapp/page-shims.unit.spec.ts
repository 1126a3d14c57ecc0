import { expect, it } from 'vitest';
import type { Build } from '../../src/sandbox/builds/build.js';
import { builds } from '../../src/sandbox/builds/builds.js';
import { shimmedBuilds } from '../../src/whatsapp/in-page/page-shims.js';

/** Whether a build differs from what the library expects, in what each shim mends. test/sandbox proves that the page is so. */
const needs: Record<keyof typeof shimmedBuilds, (build: Build) => boolean> = {
  keys: ({ keyField }) => keyField !== '_serialized',
  media: ({ mediaHasId }) => mediaHasId,
};

it.each(Object.entries(needs))(
  'the shim %s names the builds that need it, and a known build does',
  (shim, isNeeded) => {
    const names = builds.filter(isNeeded).map(({ name }) => name);
    // Take the shim away when this fails.
    expect(names).not.toEqual([]);
    expect(shimmedBuilds[shim as keyof typeof shimmedBuilds]).toEqual(names);
  },
);
