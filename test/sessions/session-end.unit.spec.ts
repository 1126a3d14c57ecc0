import { describe, expect, it } from 'vitest';
import { SandboxOff, SandboxUnreachable } from '../../src/accounts/sandbox-client.js';
import { foreignText } from '../../src/platform/errors/foreign-text.js';
import { failedStart, statusReasonOf } from '../../src/sessions/session-end.js';
import { SnapshotUnusable } from '../../src/sessions/session-snapshots.js';
import { internals } from '../support/internals.js';

const hostile = [
  'net::ERR_PROXY_CONNECTION_FAILED at https://web.whatsapp.com/',
  'Failed to launch the browser process!\n/usr/bin/chromium: error while loading shared libraries',
  'ENOENT: no such file or directory, open /srv/flotilla/var/sessions/session-1/Default/Preferences',
  'connect ECONNREFUSED 127.0.0.1:8443',
  'connect ECONNREFUSED ::1:8443',
  'Protocol error: Target closed at file:///srv/flotilla/dist/programs/instance.mjs:10:2',
  'getaddrinfo ENOTFOUND vm-17.internal:3001',
];

describe('the reason of an account whose session has ended', () => {
  it.each(hostile)('holds nothing of the error: %s', (text) => {
    for (const error of [
      new Error(text),
      text,
      new SnapshotUnusable('1', new Error(text)),
      new SandboxUnreachable(new Error(text)),
    ]) {
      const { reason, detail } = failedStart(error);
      expect(['restart', 'stopped', 'qr_expired']).not.toContain(reason);
      expect(internals(statusReasonOf(reason as Parameters<typeof statusReasonOf>[0]))).toEqual([]);
      expect(detail.length).toBeGreaterThan(10);
    }
  });

  it('says what a tenant can do something about', () => {
    expect(statusReasonOf(failedStart(new Error(hostile[0])).reason as 'unreachable')).toMatch(
      /^unreachable: .*proxy/,
    );
    expect(failedStart(new SandboxOff()).reason).toBe('sandbox_off');
    expect(statusReasonOf('version_refused', '2.3000.1')).toMatch(
      /^version_refused: .*the page of 2\.3000\.1/,
    );
  });
});

describe('the text of another program', () => {
  it.each(hostile)('loses what tells of this machine: %s', (text) => {
    expect(internals(foreignText(text))).toEqual([]);
  });

  it('keeps what tells of the message', () => {
    const kept = [
      `TypeError: this.Chat.addAndSendMsgToChat is not a function`,
      'No LID for user',
      'media-fault: the upload was answered 503',
      'the state is 2.3000.1034, and/or 50% of it',
    ];
    expect(kept.map((text) => foreignText(text))).toEqual(kept);
    expect(foreignText('x'.repeat(900))).toHaveLength(500);
  });
});
