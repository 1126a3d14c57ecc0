import type { LoadedBuild } from '../wire/frames.js';

/** The build of WhatsApp Web that this page is, as the server says. */
export const build = JSON.parse(document.getElementById('build')!.textContent) as LoadedBuild;
