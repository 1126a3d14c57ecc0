import { Inject, Injectable } from '@nestjs/common';
import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import pLimit from 'p-limit';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import { MediaSpool, type SpooledFile } from './media-spool.js';

/** How many conversions this process runs at the same time, each in a process of its own with one thread. */
const parallel = 2;
/** How many more may wait, of all workspaces together. */
const maxWaiting = 32;
/** The most processor time of one conversion. A minute of sound takes about a second. */
const maxProcessorSeconds = 30;
/** The longest time of one conversion. It ends only on a machine that has too much to do, or for a file that takes too much. */
const timeoutMs = 60_000;
/** A conversion whose turn comes later is not begun. */
const maxWaitMs = 30_000;
/** The most memory that a conversion may take, of addresses. */
const maxMemoryBytes = 1024 * 2 ** 20;
/** The longest voice message, in seconds. */
const maxVoiceSeconds = 3_600;
/** Of what ffmpeg says. */
const maxReportLength = 2_000;
/** What may be read. Without this list ffmpeg also reads playlists, which name other files of this machine. */
const formats = 'mp3,mov,wav,w64,aac,flac,ogg,matroska,amr,aiff,asf,caf,avi,mpeg,mpegts';
const voiceType = 'audio/ogg; codecs=opus';

export class ConverterMissing extends Problem {
  constructor() {
    super(
      503,
      'media.converter_missing',
      'Flotilla cannot convert this file, because ffmpeg is not installed on the server. Send a voice message as OGG with Opus, or let the operator install ffmpeg (npm start does it) or set FFMPEG_PATH.',
    );
  }
}

export class NotConvertible extends Problem {
  constructor(mimetype: string, cause?: unknown) {
    super(
      422,
      'media.not_convertible',
      `The file (${mimetype}) cannot be converted to a voice message: it has no sound, is damaged or takes too much time of a processor. Send OGG with Opus, or send the file as a document.`,
    );
    this.cause = cause;
  }
}

export class TooManyConversions extends Problem {
  constructor() {
    super(
      429,
      'media.too_many_conversions',
      'Too many files wait for their conversion. Try again in some seconds, or send voice messages as OGG with Opus.',
      undefined,
      5,
    );
  }
}

/**
 * Converts files with ffmpeg, in a process of its own: so a file of a stranger can take neither the memory nor the time of the
 * API, and a fault of ffmpeg ends only ffmpeg.
 */
@Injectable()
export class MediaConverter {
  private readonly turns = pLimit(parallel);

  constructor(
    private readonly spool: MediaSpool,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  /** Whether every phone plays a file of this type as a voice message. */
  isVoice(mimetype: string): boolean {
    return mimetype === voiceType;
  }

  /**
   * A voice message (Ogg with Opus, one channel) of the sound of a file. The given file stays. The same file gives the same bytes.
   * @param mimetype of the file, for the error
   * @param maxBytes the limit of the result
   * @throws ConverterMissing, NotConvertible, TooManyConversions, MediaTooLarge, MediaStorageUnavailable
   */
  async toVoice(file: SpooledFile, mimetype: string, maxBytes: number): Promise<SpooledFile> {
    const { ffmpegPath } = this.config.media;
    if (ffmpegPath === null) throw new ConverterMissing();
    if (this.turns.pendingCount >= maxWaiting) throw new TooManyConversions();
    const askedAt = performance.now();
    return this.turns(async () => {
      if (performance.now() - askedAt > maxWaitMs) throw new TooManyConversions();
      const dir = await mkdtemp(`${file.path}-`);
      const target = join(dir, 'voice.ogg');
      try {
        await runBounded(ffmpegPath, voiceArguments(file.path, target), maxBytes).catch((error: unknown) => {
          const { code } = error as NodeJS.ErrnoException;
          if (code === 'ENOENT') throw new ConverterMissing();
          // The machine has too much to do, which says nothing about the file.
          if (code === 'ETIMEDOUT') throw new TooManyConversions();
          throw new NotConvertible(mimetype, error);
        });
        return await this.spool.receive(createReadStream(target), maxBytes);
      } finally {
        await rm(dir, { recursive: true, force: true });
      }
    });
  }
}

function voiceArguments(source: string, target: string): string[] {
  return [
    ...['-nostdin', '-hide_banner', '-loglevel', 'error', '-threads', '1'],
    ...['-protocol_whitelist', 'file', '-format_whitelist', formats, '-i', `file:${source}`],
    // The first sound, nothing else: no cover, no text, no place where it was recorded.
    ...['-map', '0:a:0', '-map_metadata', '-1', '-map_chapters', '-1', '-t', String(maxVoiceSeconds)],
    ...[
      '-c:a',
      'libopus',
      '-application',
      'voip',
      '-b:a',
      '32k',
      '-ac',
      '1',
      '-ar',
      '48000',
      '-threads',
      '1',
    ],
    // Without a random number of the stream, so that the same file is the same media.
    ...['-fflags', '+bitexact', '-flags:a', '+bitexact', '-f', 'ogg', `file:${target}`],
  ];
}

/**
 * Runs a program with bounded time, memory and output.
 * @throws Error if it fails; with the code ENOENT if it is not there, ETIMEDOUT after {@link timeoutMs}
 */
function runBounded(program: string, programArguments: string[], maxFileBytes: number): Promise<void> {
  const bounds = [
    `--as=${maxMemoryBytes}`,
    `--fsize=${maxFileBytes}`,
    '--core=0',
    `--cpu=${maxProcessorSeconds}`,
  ];
  return new Promise((resolve, reject) => {
    const child = spawn('prlimit', [...bounds, 'nice', '-n', '5', program, ...programArguments], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { PATH: process.env.PATH },
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    let report = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      report = (report + text).slice(0, maxReportLength);
    });
    child.once('error', reject);
    child.once('close', (status, signal) => {
      if (status === 0) return resolve();
      // `prlimit` and `nice` exit with 127 if they do not find the program.
      const code = status === 127 ? 'ENOENT' : child.killed ? 'ETIMEDOUT' : undefined;
      reject(Object.assign(new Error(`ffmpeg: ${signal ?? status}: ${report.trim()}`), { code }));
    });
  });
}
