import { readFile, stat } from 'node:fs/promises';
import { argv } from 'node:process';
import type { Sharp } from 'sharp';

/*
 * The program that converts one picture: `picture.main.js <goal> <mimetype> <source> <target>`. A process of its own, because a
 * picture of a stranger may take a lot of memory and time, or may bring down its decoder.
 */

/** More than the largest photo of a phone (48 megapixels). An AVIF of a few kilobytes can have more than a billion. */
const maxPixels = 50_000_000;
/** Of all frames of an animation together. */
const maxPixelsOfAnimation = 100_000_000;
/** The longest side of a picture. WhatsApp makes pictures smaller than this. */
const maxSide = 4_096;
const jpegQuality = 90;
/** Of a JPEG that is read again at once. */
const intermediateQuality = 95;
/** WhatsApp's size of a sticker, in pixels, and its limit for one that does not move, in bytes. */
const stickerSide = 512;
const maxStickerBytes = 100_000;
const stickerQualities = [85, 65, 45, 25, 5];
const white = '#ffffff';
const transparent = { r: 0, g: 0, b: 0, alpha: 0 };
/** By type: the only decoder that may run. */
const decoders: Record<string, string> = {
  'image/jpeg': 'VipsForeignLoadJpeg',
  'image/png': 'VipsForeignLoadPng',
  'image/apng': 'VipsForeignLoadPng',
  'image/webp': 'VipsForeignLoadWebp',
  'image/gif': 'VipsForeignLoadNsgif',
  'image/tiff': 'VipsForeignLoadTiff',
  'image/avif': 'VipsForeignLoadHeif',
  'image/heic': 'VipsForeignLoadHeif',
  'image/heif': 'VipsForeignLoadHeif',
  'image/heic-sequence': 'VipsForeignLoadHeif',
  'image/heif-sequence': 'VipsForeignLoadHeif',
};

const { default: sharp } = await import('sharp').catch((error: unknown) => {
  process.stderr.write(String(error));
  // As a shell says that a program is missing: there is no build of the library for this machine.
  process.exit(127);
});

const [goal, mimetype, source, target] = argv.slice(2) as [string, string, string, string];
sharp.cache(false);
sharp.concurrency(1);
sharp.block({ operation: ['VipsForeignLoad'] });
sharp.unblock({ operation: [decoders[mimetype]!] });

if (goal === 'image')
  await (
    await open()
  )
    .autoOrient()
    .resize(maxSide, maxSide, { fit: 'inside', withoutEnlargement: true })
    .flatten({ background: white })
    .jpeg({ quality: jpegQuality })
    .toFile(target);
else if (goal === 'sticker') await writeSticker();
else if (goal === 'gif')
  await sharp(source, { animated: true, limitInputPixels: maxPixelsOfAnimation })
    .gif({ effort: 1 })
    .toFile(target);
else throw new Error(`There is no goal ${goal}.`);

async function open(): Promise<Sharp> {
  const isHeic = /^image\/hei[cf]/.test(mimetype) && (await readFile(source)).includes('hvc1');
  return isHeic ? openHeic() : sharp(source, { limitInputPixels: maxPixels, failOn: 'error' });
}

async function writeSticker(): Promise<void> {
  const picture = (await open())
    .autoOrient()
    .resize(stickerSide, stickerSide, { fit: 'contain', background: transparent });
  for (const quality of stickerQualities) {
    await picture.clone().webp({ quality, alphaQuality: quality }).toFile(target);
    if ((await stat(target)).size <= maxStickerBytes) return;
  }
}

/** The picture of a HEIC file, upright. The builds of sharp read only its description: they cannot decode HEVC. */
async function openHeic(): Promise<Sharp> {
  const { default: libheif } = await import('libheif-js/wasm-bundle.js');
  const context = libheif.heif_context_alloc();
  const read = libheif.heif_context_read_from_memory(context, await readFile(source));
  if (read.code.value !== 0) throw new Error(read.message);
  const image = libheif.heif_js_context_get_primary_image_handle(context);
  if ('code' in image) throw new Error(image.message);
  const pixels = libheif.heif_image_handle_get_width(image) * libheif.heif_image_handle_get_height(image);
  if (pixels > maxPixels) throw new Error(`The picture has ${pixels} pixels.`);
  const isTransparent = libheif.heif_image_handle_has_alpha_channel(image) !== 0;
  const { heif_chroma_interleaved_RGB, heif_chroma_interleaved_RGBA } = libheif.heif_chroma;
  const decoded = await libheif.heif_js_decode_image2(
    image,
    libheif.heif_colorspace.heif_colorspace_RGB,
    isTransparent ? heif_chroma_interleaved_RGBA : heif_chroma_interleaved_RGB,
  );
  if ('code' in decoded) throw new Error(decoded.message);
  const { width, height, stride, data } = decoded.channels[0]!;
  const channels = isTransparent ? 4 : 3;
  const row = width * channels;
  if (stride !== row)
    for (let y = 1; y < height; y += 1) data.copyWithin(y * row, y * stride, y * stride + row);
  const raw = sharp(data.subarray(0, row * height), { raw: { width, height, channels } });
  // Photos of an iPhone have wider colours than sRGB. Two bytes hold the length of a part of a JPEG.
  const { icc } = await sharp(source).metadata();
  if (isTransparent || !icc || icc.length > 65_000) return raw;
  const jpeg = await raw.jpeg({ quality: intermediateQuality, chromaSubsampling: '4:4:4' }).toBuffer();
  sharp.unblock({ operation: ['VipsForeignLoadJpeg'] });
  return sharp(withIccProfile(jpeg, icc), { limitInputPixels: maxPixels });
}

function withIccProfile(jpeg: Buffer, profile: Buffer): Buffer {
  const name = Buffer.from('ICC_PROFILE\0\x01\x01', 'latin1');
  const head = Buffer.from([0xff, 0xe2, 0, 0]);
  head.writeUInt16BE(2 + name.length + profile.length, 2);
  return Buffer.concat([jpeg.subarray(0, 2), head, name, profile, jpeg.subarray(2)]);
}
