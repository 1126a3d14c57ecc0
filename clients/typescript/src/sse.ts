import type { FlotillaEvent } from './types.js';

/**
 * The events of a `text/event-stream`, as they arrive, each with its place in the log; the first has a place alone: where the
 * stream begins.
 * @param heard is called whenever anything arrives, comments too
 */
export async function* readEvents(
  response: Response,
  heard: () => void,
): AsyncGenerator<{ place: string; event?: FlotillaEvent }, void, undefined> {
  if (!response.body) return;
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      rest += decoder.decode(value, { stream: true });
      const blocks = rest.split('\n\n');
      rest = blocks.pop() ?? '';
      for (const block of blocks) {
        const place = /^id: (.*)$/m.exec(block)?.[1];
        const data = /^data: (.*)$/m.exec(block)?.[1];
        if (place !== undefined)
          yield { place, ...(data === undefined ? {} : { event: JSON.parse(data) as FlotillaEvent }) };
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
