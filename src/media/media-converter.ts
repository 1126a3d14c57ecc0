import { Inject, Injectable } from '@nestjs/common';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import pLimit, { type LimitFunction } from 'p-limit';
import { type Config, projectRoot } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import { runBounded } from './bounded-program.js';
import { MediaSpool, type SpooledFile } from './media-spool.js';
import { kindOf } from './media-type.js';

/** How many conversions this process runs at the same time, each in a process of its own with one thread. */
const parallel = 2;
/** How many more may wait, of all workspaces together. */
const maxWaiting = 32;
/** The longest time of one conversion. It ends only on a machine that has too much to do, or for a file that takes too much. */
const timeoutMs = 60_000;
/** A conversion whose turn comes later is not begun. */
const maxWaitMs = 30_000;
/** The longest voice message, in seconds. */
const maxVoiceSeconds = 3_600;
/** The most pixels of a picture or a film that ffmpeg decodes. */
const maxPixels = 50_000_000;
/** The longest side of a video that plays as a GIF. */
const maxGifSide = 1_280;
const gifFramesPerSecond = 30;
/** Of a file between two steps. */
const maxStepBytes = 128 * 2 ** 20;
/** WhatsApp's limits of a sticker that moves. */
const maxMovingStickerBytes = 500_000;
const maxMovingStickerSeconds = 10;
/** What is tried until a moving sticker is small enough. `share` is its usual size, as a share of the first one's. */
const movingStickers = [
  { framesPerSecond: 15, quality: 70, side: 512, share: 1 },
  { framesPerSecond: 12, quality: 45, side: 512, share: 0.65 },
  { framesPerSecond: 8, quality: 25, side: 512, share: 0.35 },
  { framesPerSecond: 5, quality: 5, side: 512, share: 0.15 },
  // Also without the details of its picture.
  { framesPerSecond: 5, quality: 0, side: 128, share: 0.1 },
];
type MovingSticker = (typeof movingStickers)[number];

/** What may be read. Without these lists ffmpeg also reads playlists, which name other files of this machine. */
const soundFormats = 'mp3,mov,wav,w64,aac,flac,ogg,matroska,amr,aiff,asf,caf,avi,mpeg,mpegts';
const movingFormats = 'gif,apng,mov,matroska,avi,mpeg,mpegts,asf,ogg';
const stillFormats = 'bmp_pipe,j2k_pipe,jpegxl_pipe,psd_pipe,ico';

const voiceType = 'audio/ogg; codecs=opus';
/** Pictures that every phone shows. */
const shown = new Set(['image/jpeg', 'image/png']);
/** Pictures that the program for pictures reads. */
const readable = new Set([
  'image/webp',
  'image/gif',
  'image/apng',
  'image/tiff',
  'image/avif',
  'image/heic',
  'image/heif',
  'image/heic-sequence',
  'image/heif-sequence',
]);
/** Pictures that ffmpeg must read for it. */
const foreign = new Set([
  'image/bmp',
  'image/x-icon',
  'image/jp2',
  'image/jpx',
  'image/j2c',
  'image/jxl',
  'image/vnd.adobe.photoshop',
]);

/** What a file can become. */
export type Goal = 'voice' | 'image' | 'sticker' | 'movingSticker' | 'gif';

const goals: Record<Goal, { what: string; reasons: string; cure: string }> = {
  voice: {
    what: 'a voice message',
    reasons: 'it has no sound, is damaged',
    cure: 'Send OGG with Opus, or send the file as a document.',
  },
  image: {
    what: 'a JPEG',
    reasons: 'it is damaged, has more than 50 million pixels',
    cure: 'Send a JPEG or PNG, or send the file as a document.',
  },
  sticker: {
    what: 'a sticker',
    reasons: 'it is damaged, has more than 50 million pixels',
    cure: 'Send a WebP of 512 × 512 pixels.',
  },
  movingSticker: {
    what: 'a sticker',
    reasons: 'it has no picture, is damaged, is too large',
    cure: 'Send a WebP of 512 × 512 pixels.',
  },
  gif: {
    what: 'an MP4 that plays as a GIF',
    reasons: 'it has no picture, is damaged, is too large',
    cure: 'Send an MP4 with H.264, or send the file as a document.',
  },
};

export class ConverterMissing extends Problem {
  constructor(program = 'ffmpeg', goal: Goal = 'voice') {
    const install =
      program === 'ffmpeg'
        ? 'let the operator install ffmpeg (npm start does it) or set FFMPEG_PATH'
        : 'let the operator install Flotilla on a machine that has a build of sharp';
    super(
      503,
      'media.converter_missing',
      `Flotilla cannot convert this file to ${goals[goal].what}, because ${program} is not installed on the server. ${goals[goal].cure} Or ${install}.`,
    );
  }
}

export class NotConvertible extends Problem {
  constructor(mimetype: string, goal: Goal, cause?: unknown) {
    const { what, reasons, cure } = goals[goal];
    super(
      422,
      'media.not_convertible',
      `The file (${mimetype}) cannot be converted to ${what}: ${reasons} or takes too much time of a processor. ${cure}`,
    );
    this.cause = cause;
  }
}

export class TooManyConversions extends Problem {
  constructor() {
    super(
      429,
      'media.too_many_conversions',
      'Too many files wait for their conversion. Try again in some seconds, or send files that need none: OGG with Opus, JPEG, PNG, WebP stickers and MP4.',
      undefined,
      5,
    );
  }
}

/** One run of a program, from a file to another one. */
interface Step {
  program: 'ffmpeg' | 'sharp';
  /** Between the paths of the two files. */
  arguments: (source: string, target: string) => string[];
  maxBytes: number;
}

/**
 * Converts files in processes of their own, with ffmpeg and with a small program around sharp and libheif: so a file of a
 * stranger can take neither the memory nor the time of the API, and a fault of a decoder ends only that process.
 */
@Injectable()
export class MediaConverter {
  private readonly turns = pLimit(parallel);
  /** By workspace: its conversions take turns, so that the slow files of one workspace leave a place to the others. */
  private readonly turnsOf = new Map<string, LimitFunction>();
  /** How many run or wait. */
  private asked = 0;

  constructor(
    private readonly spool: MediaSpool,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  /**
   * What a file must become, so that every phone shows or plays it; null if it stays as it is.
   * @param sentAs the type of the message; `gif` for a video that plays as a GIF
   */
  goalOf(mimetype: string, sentAs: string): Goal | null {
    const kind = kindOf(mimetype);
    const isPicture = shown.has(mimetype) || readable.has(mimetype) || foreign.has(mimetype);
    switch (sentAs) {
      case 'voice':
        // The containers of films also hold sounds: a browser records WebM, a phone M4A.
        return mimetype !== voiceType && (kind === 'audio' || kind === 'video') ? 'voice' : null;
      case 'image':
        return isPicture && !shown.has(mimetype) ? 'image' : null;
      case 'sticker':
        if (mimetype === 'image/webp') return null;
        if (kind === 'video' || mimetype === 'image/gif' || mimetype === 'image/apng') return 'movingSticker';
        return isPicture ? 'sticker' : null;
      case 'gif':
        if (mimetype === 'image/gif' || mimetype === 'image/apng' || mimetype === 'image/webp') return 'gif';
        return kind === 'video' && mimetype !== 'video/mp4' ? 'gif' : null;
      default:
        return null;
    }
  }

  /**
   * Converts a file. The given file stays. The same file gives the same bytes.
   * @param workspaceId whose file it is
   * @param mimetype of the file, by its bytes
   * @param maxBytes the limit of the result
   * @throws ConverterMissing, NotConvertible, TooManyConversions, MediaTooLarge, MediaStorageUnavailable
   */
  async convert(
    workspaceId: string,
    file: SpooledFile,
    mimetype: string,
    goal: Goal,
    maxBytes: number,
  ): Promise<SpooledFile> {
    this.assertInstalled(goal, mimetype);
    if (this.asked >= parallel + maxWaiting) throw new TooManyConversions();
    const askedAt = performance.now();
    return this.inTurn(workspaceId, async () => {
      if (performance.now() - askedAt > maxWaitMs) throw new TooManyConversions();
      const dir = await mkdtemp(`${file.path}-`);
      try {
        const target = await this.runSteps(file.path, mimetype, goal, maxBytes, dir);
        return await this.spool.receive(createReadStream(target), maxBytes);
      } finally {
        await rm(dir, { recursive: true, force: true });
      }
    });
  }

  /** Runs one piece of work of a workspace at a time, and few of all workspaces. */
  private async inTurn<Result>(workspaceId: string, work: () => Promise<Result>): Promise<Result> {
    const own = this.turnsOf.get(workspaceId) ?? pLimit(1);
    this.turnsOf.set(workspaceId, own);
    this.asked += 1;
    try {
      return await own(() => this.turns(work));
    } finally {
      this.asked -= 1;
      if (own.activeCount + own.pendingCount === 0) this.turnsOf.delete(workspaceId);
    }
  }

  private assertInstalled(goal: Goal, mimetype: string): void {
    const needsFfmpeg =
      goal === 'voice' || goal === 'gif' || goal === 'movingSticker' || foreign.has(mimetype);
    if (needsFfmpeg && this.config.media.ffmpegPath === null) throw new ConverterMissing('ffmpeg', goal);
  }

  /** @returns the path of the result, in `dir` */
  private async runSteps(
    source: string,
    mimetype: string,
    goal: Goal,
    maxBytes: number,
    dir: string,
  ): Promise<string> {
    const deadline = performance.now() + timeoutMs;
    let last = source;
    for (const [index, step] of stepsOf(mimetype, goal, maxBytes).entries()) {
      const target = join(dir, String(index));
      await this.run(step, last, target, mimetype, goal, deadline);
      last = target;
    }
    if (goal !== 'movingSticker') return last;
    let tried: MovingSticker | undefined = movingStickers[0];
    while (tried) {
      const target = join(dir, String(tried.share));
      await this.run(stickerStep(tried), source, target, mimetype, goal, deadline);
      const { size } = await stat(target);
      if (size <= maxMovingStickerBytes) return target;
      tried = nextSticker(tried, size);
    }
    throw new NotConvertible(mimetype, goal);
  }

  private async run(
    step: Step,
    source: string,
    target: string,
    mimetype: string,
    goal: Goal,
    deadline: number,
  ): Promise<void> {
    const { program, maxBytes } = step;
    const isFfmpeg = program === 'ffmpeg';
    await runBounded({
      program: isFfmpeg ? this.config.media.ffmpegPath! : process.execPath,
      arguments: step.arguments(source, target),
      memory: isFfmpeg ? 'addresses' : 'data',
      maxFileBytes: maxBytes,
      timeoutMs: Math.max(1, Math.ceil(deadline - performance.now())),
    }).catch((error: unknown) => {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') throw new ConverterMissing(program, goal);
      // The machine has too much to do, which says nothing about the file.
      if (code === 'ETIMEDOUT') throw new TooManyConversions();
      throw new NotConvertible(mimetype, goal, error);
    });
  }
}

/** The steps of a conversion; none for a sticker that moves, which is tried several times. */
function stepsOf(mimetype: string, goal: Goal, maxBytes: number): Step[] {
  switch (goal) {
    case 'voice':
      return [ffmpegStep(soundFormats, voiceArguments, maxBytes)];
    case 'image':
    case 'sticker':
      return foreign.has(mimetype)
        ? [ffmpegStep(stillFormats, stillArguments, maxStepBytes), pictureStep(goal, 'image/png', maxBytes)]
        : [pictureStep(goal, mimetype, maxBytes)];
    case 'gif': {
      const toMp4 = ffmpegStep(movingFormats, gifArguments, maxBytes);
      // ffmpeg does not read the frames of WebP.
      return mimetype === 'image/webp' ? [pictureStep('gif', mimetype, maxStepBytes), toMp4] : [toMp4];
    }
    case 'movingSticker':
      return [];
  }
}

function pictureStep(goal: string, mimetype: string, maxBytes: number): Step {
  const program = join(projectRoot, 'dist', 'src', 'media', 'picture.main.js');
  return {
    program: 'sharp',
    arguments: (source, target) => [program, goal, mimetype, source, target],
    maxBytes,
  };
}

function ffmpegStep(formats: string, output: string[], maxBytes: number): Step {
  return {
    program: 'ffmpeg',
    arguments: (source, target) => [
      ...['-nostdin', '-hide_banner', '-loglevel', 'error', '-abort_on', 'empty_output'],
      ...['-threads', '1', '-max_pixels', String(maxPixels)],
      ...['-protocol_whitelist', 'file', '-format_whitelist', formats, '-i', `file:${source}`],
      // No text, and no place where it was recorded.
      ...['-map_metadata', '-1', '-map_chapters', '-1', '-threads', '1', '-filter_threads', '1'],
      // Without a random number of the stream, so that the same file is the same media.
      ...['-fflags', '+bitexact', '-flags:v', '+bitexact', '-flags:a', '+bitexact'],
      ...output,
      `file:${target}`,
    ],
    maxBytes,
  };
}

/** The first sound, without a cover. */
const voiceArguments = [
  ...['-map', '0:a:0', '-t', String(maxVoiceSeconds)],
  ...['-c:a', 'libopus', '-application', 'voip', '-b:a', '32k', '-ac', '1', '-ar', '48000', '-f', 'ogg'],
];

const stillArguments = ['-map', '0:v:0', '-frames:v', '1', '-c:v', 'png', '-f', 'image2pipe'];

/** What is transparent becomes white: a film has no transparency. Players need even sides and this form of the colours. */
const gifArguments = [
  ...['-map', '0:v:0', '-an', '-vf'],
  [
    `fps=${gifFramesPerSecond}`,
    `scale=w='min(${maxGifSide},iw)':h='min(${maxGifSide},ih)':force_original_aspect_ratio=decrease:force_divisible_by=2`,
    'format=rgba',
    'split[picture][copy];[copy]lutrgb=r=255:g=255:b=255:a=255[white];[white][picture]overlay=format=auto',
    'format=yuv420p',
  ].join(','),
  ...['-c:v', 'libx264', '-preset', 'veryfast', '-crf', '23', '-movflags', '+faststart', '-f', 'mp4'],
];

/** The best sticker that should be small enough, after a larger one was too large. Undefined after the last one. */
function nextSticker(tried: MovingSticker, size: number): MovingSticker | undefined {
  const smaller = movingStickers.slice(movingStickers.indexOf(tried) + 1);
  return smaller.find(({ share }) => (size / tried.share) * share <= maxMovingStickerBytes) ?? smaller.at(-1);
}

function stickerStep({ framesPerSecond, quality, side }: MovingSticker): Step {
  const filters = [
    `fps=${framesPerSecond}`,
    `scale=${side}:${side}:force_original_aspect_ratio=decrease:flags=lanczos`,
    'format=rgba',
    `pad=${side}:${side}:-1:-1:color=#00000000`,
    ...(side === 512 ? [] : ['scale=512:512']),
  ].join(',');
  const output = [
    ...['-map', '0:v:0', '-an', '-t', String(maxMovingStickerSeconds), '-vf', filters],
    ...['-c:v', 'libwebp_anim', '-quality', String(quality), '-compression_level', '2', '-loop', '0'],
    ...['-f', 'webp'],
  ];
  return ffmpegStep(movingFormats, output, maxStepBytes);
}
