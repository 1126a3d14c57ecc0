import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { refreshQr } from '../../src/whatsapp/in-page/page-state.js';

/* Which of the page's functions asks for new QR codes. The function runs in a page; here it sees the modules that a test gives. */

const refresh = vi.fn();

function pageWith(modules: Record<string, unknown>, state = 'UNPAIRED_IDLE', me?: object): void {
  const all: Record<string, unknown> = {
    WAWebSocketModel: { Socket: { state } },
    WAWebUserPrefsMeUser: { getMaybeMePnUser: () => me, getMaybeMeLidUser: () => undefined },
    WAWebCmd: { Cmd: {} },
    ...modules,
  };
  vi.stubGlobal('window', {
    require: (name: string) => {
      if (name in all) return all[name];
      throw new Error(`no module ${name}`);
    },
  });
}

beforeEach(() => void refresh.mockClear());
afterEach(() => vi.unstubAllGlobals());

describe('the QR code is refreshed', () => {
  it.each([
    ['WAWebLaunchSocketUtils', { refreshQR: refresh }],
    ['WAWebBackendEventBus', { BackendEventBus: { triggerRefreshQR: refresh } }],
    ['WAWebCmd', { Cmd: { refreshQR: refresh } }],
  ])('by %s where that is what the page has', (name, module) => {
    pageWith({ [name]: module });
    expect(refreshQr()).toBe(true);
    expect(refresh).toHaveBeenCalledOnce();
  });

  it('by nothing in a page that has none of them, which is an error', () => {
    pageWith({});
    expect(() => refreshQr()).toThrow('no function that refreshes the QR code');
  });

  it('never in a page that is linked, or that still shows a code', () => {
    const module = { WAWebLaunchSocketUtils: { refreshQR: refresh } };
    pageWith(module, 'UNPAIRED_IDLE', {});
    expect(refreshQr()).toBe(false);
    pageWith(module, 'UNPAIRED');
    expect(refreshQr()).toBe(false);
    expect(refresh).not.toHaveBeenCalled();
  });
});
