import type { FlotillaEvent } from './types.js';

/**
 * The events of a `text/event-stream`, as they arrive.
 * @param heard is called whenever anything arrives, comments too
 */
export async function* readEvents(
  response: Response,
  heard: () => void,
): AsyncGenerator<FlotillaEvent, void, undefined> {
  if (!response.body) return;
  const reader = response.body.getReader();
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
        const data = /^data: (.*)$/m.exec(block)?.[1];
        if (data !== undefined) yield JSON.parse(data) as FlotillaEvent;
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
