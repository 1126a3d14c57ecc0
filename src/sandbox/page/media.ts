import type { MediaPointer } from '../wire/frames.js';
import { build } from './build.js';
import { Model, type ModelWith } from './events.js';
import { decodeB64, encodeB64 } from './ids.js';

const MAC_BYTES = 10;
const KEY_INFO = 'WhatsApp Media Keys';
const STICKER_PIXELS = 512;

/** A blob of the page, as WhatsApp Web keeps them. */
class OpaqueData {
  declare readonly blob: Blob;
  declare readonly type: string;
  declare readonly size: number;

  constructor(blob: Blob, type: string) {
    this.blob = blob;
    this.type = type;
    this.size = blob.size;
  }

  static async createFromData(blob: Blob, type: string): Promise<OpaqueData> {
    return new OpaqueData(blob, type);
  }

  url(): string {
    return `blob:sandbox/${this.size}`;
  }

  formData(): Blob {
    return this.blob;
  }

  autorelease(): void {}
}

interface MediaAttributes {
  type: string;
  mimetype: string;
  filehash: string;
  mediaBlob: OpaqueData;
  size: number;
  isGif: boolean;
  preview: string | undefined;
  filename?: string;
  waveform?: Uint8Array;
}

/** What is needed to read media. */
type Download = Pick<MediaPointer, 'directPath' | 'encFilehash' | 'filehash' | 'mediaKey'> & {
  signal?: AbortSignal;
};

/** How whatsapp-web.js wants a file to be sent. */
interface PrepareOptions {
  isPtt?: boolean;
  asDocument?: boolean;
  asGif?: boolean;
  asSticker?: boolean;
}

/** What the page keeps of a file that is being sent. */
interface MediaObject {
  filehash: string;
  contentInfo: object;
  consolidate(): void;
  type?: string;
  blob?: Blob;
  size?: number;
}

interface MediaKeys {
  iv: ArrayBuffer;
  cipherKey: CryptoKey;
  macKey: CryptoKey;
}

/** What is known of a file that is to be sent. */
class MediaData extends (Model as ModelWith<MediaAttributes>) {
  override toJSON(): object {
    const json: Partial<MediaAttributes> = { ...this };
    delete json.mediaBlob;
    delete json.preview;
    delete (json as { __x_id?: object }).__x_id;
    return json;
  }
}

/** Encrypts, uploads and downloads media as WhatsApp Web does. The server has all media, encrypted. */
export class Media {
  #objects = new Map<string, MediaObject>();
  #authorize: (hash: string) => Promise<string>;

  /** @param authorize makes the proof that a linked browser uploads bytes with this hash */
  constructor(authorize: (hash: string) => Promise<string>) {
    this.#authorize = authorize;
  }

  /** The modules of WhatsApp Web that whatsapp-web.js asks for to send and read media. */
  get modules() {
    return {
      WAWebMediaOpaqueData: OpaqueData,
      WAWebPrepRawMedia: {
        prepRawMedia: (data: OpaqueData, params: PrepareOptions) => ({
          waitForPrep: () => this.#prepare(data, params),
        }),
      },
      WAWebMediaStorage: { getOrCreateMediaObject: (filehash: string) => this.#objectOf(filehash) },
      WAWebMmsMediaTypes: {
        msgToMediaType: ({ type }: { type: string }) => type,
        castToV4: (type: string) => type,
      },
      WAWebMediaDataUtils: { shouldUseMediaCache: () => false },
      // The line above keeps whatsapp-web.js from putting anything here.
      WAWebMediaInMemoryBlobCache: { InMemoryMediaBlobCache: { put() {} } },
      WAWebMediaMmsV4Upload: {
        uploadMedia: async ({ mediaObject }: { mediaObject: Required<MediaObject> }) => ({
          mediaEntry: await this.upload(mediaObject.blob),
        }),
        uploadUnencryptedMedia: async ({ mediaObject }: { mediaObject: Required<MediaObject> }) => ({
          mediaEntry: await this.#uploadPlain(mediaObject),
        }),
      },
      WAWebUploadManager: { encryptAndUpload: ({ blob }: { blob: Blob }) => this.#uploadSticker(blob) },
      WAWebStartMediaUploadQpl: { startMediaUploadQpl: () => ({}) },
      WAWebImageUtils: { toWebpSticker },
      WAWebDownloadManager: {
        downloadManager: { downloadAndMaybeDecrypt: (media: Download) => this.download(media) },
      },
    };
  }

  /** A file that this page has sent lately. */
  blobOf(filehash: string): Blob | undefined {
    return this.#objects.get(filehash)?.blob;
  }

  /** The plain bytes of a message's media. */
  async download({ directPath, encFilehash, filehash, mediaKey, signal }: Download): Promise<ArrayBuffer> {
    const response = await fetch(directPath, { signal });
    if (!response.ok)
      throw Object.assign(new Error(`The media server answered ${response.status}.`), {
        status: response.status,
      });
    const bytes = await response.arrayBuffer();
    if ((await hashOf(bytes)) !== encFilehash) throw new Error('The media was changed on its way.');
    if (mediaKey === '') return bytes;
    const { iv, cipherKey, macKey } = await keysOf(decodeB64(mediaKey));
    const encrypted = bytes.slice(0, -MAC_BYTES);
    const mac = await macOf(macKey, iv, encrypted);
    if (encodeB64(mac) !== encodeB64(bytes.slice(-MAC_BYTES)))
      throw new Error('The media is not what was sent.');
    const plain = await crypto.subtle.decrypt({ name: 'AES-CBC', iv }, cipherKey, encrypted);
    if ((await hashOf(plain)) !== filehash) throw new Error('The media is not what its message says.');
    return plain;
  }

  async #prepare(
    { blob, type: mimetype }: OpaqueData,
    { isPtt, asDocument, asGif, asSticker }: PrepareOptions,
  ): Promise<MediaData> {
    const filehash = await hashOf(await blob.arrayBuffer());
    const kind = mimetype.split('/')[0]!;
    let type = ['image', 'video', 'audio'].includes(kind) ? kind : 'document';
    if (asDocument) type = 'document';
    else if (asSticker) type = 'sticker';
    else if (isPtt && type === 'audio') type = 'ptt';
    // WhatsApp Web draws a picture before it sends it, so it sends no picture that the browser cannot read.
    if (type === 'image') (await createImageBitmap(blob)).close();
    const object = this.#objectOf(filehash);
    Object.assign(object, { type, blob, size: blob.size });
    const media = new MediaData({
      type,
      mimetype,
      filehash,
      mediaBlob: new OpaqueData(blob, mimetype),
      size: blob.size,
      isGif: Boolean(asGif),
      // A small picture of the file. The real page draws it.
      preview: type === 'image' || type === 'video' ? '/9j/4AAQ' : undefined,
      ...(type === 'document' ? { filename: (blob as File).name } : {}),
      ...(type === 'ptt' ? { waveform: new Uint8Array(64) } : {}),
    });
    // The slot of the model's own id, which is empty until somebody asks for it.
    if (build.mediaHasId) Object.assign(media, { __x_id: {} });
    return media;
  }

  #objectOf(filehash: string): MediaObject {
    // What was sent is not needed any more: one file is sent at a time, and the last few stay beside it.
    if (this.#objects.size > 8) this.#objects.delete(this.#objects.keys().next().value!);
    let object = this.#objects.get(filehash);
    if (!object) {
      object = { filehash, contentInfo: {}, consolidate() {} };
      this.#objects.set(filehash, object);
    }
    return object;
  }

  /** Encrypts and uploads a file. */
  async upload(blob: Blob) {
    const mediaKey = crypto.getRandomValues(new Uint8Array(32));
    const { iv, cipherKey, macKey } = await keysOf(mediaKey);
    const encrypted = await crypto.subtle.encrypt(
      { name: 'AES-CBC', iv },
      cipherKey,
      await blob.arrayBuffer(),
    );
    const bytes = new Blob([encrypted, await macOf(macKey, iv, encrypted)]);
    const encFilehash = await hashOf(await bytes.arrayBuffer());
    const directPath = await this.#put(bytes, encFilehash);
    const mmsUrl = `https://${location.host}${directPath}`;
    return {
      mmsUrl,
      deprecatedMms3Url: mmsUrl,
      directPath,
      mediaKey: encodeB64(mediaKey),
      mediaKeyTimestamp: Math.floor(Date.now() / 1000),
      encFilehash,
      uploadHash: encFilehash,
    };
  }

  /** Media of channels are not encrypted, and have no key. */
  async #uploadPlain({ blob, filehash }: Required<MediaObject>) {
    const directPath = await this.#put(blob, filehash);
    const mmsUrl = `https://${location.host}${directPath}`;
    return {
      mmsUrl,
      deprecatedMms3Url: mmsUrl,
      directPath,
      mediaKey: '',
      mediaKeyTimestamp: Math.floor(Date.now() / 1000),
      encFilehash: filehash,
      uploadHash: filehash,
      handle: directPath,
    };
  }

  async #uploadSticker(blob: Blob) {
    const { mmsUrl, ...entry } = await this.upload(blob);
    return { ...entry, url: mmsUrl, mimetype: blob.type };
  }

  /** Uploads bytes. @returns their path */
  async #put(bytes: Blob, hash: string): Promise<string> {
    const response = await fetch(`/v/media?hash=${encodeURIComponent(hash)}`, {
      method: 'POST',
      headers: { authorization: await this.#authorize(hash) },
      body: bytes,
    });
    if (!response.ok) throw new Error(`media-fault: the upload was answered ${response.status}`);
    return ((await response.json()) as { directPath: string }).directPath;
  }
}

/** Draws a picture as a sticker. */
async function toWebpSticker(file: Blob): Promise<Blob> {
  const picture = await createImageBitmap(file);
  const scale = STICKER_PIXELS / Math.max(picture.width, picture.height);
  const [width, height] = [picture.width * scale, picture.height * scale];
  const canvas = new OffscreenCanvas(STICKER_PIXELS, STICKER_PIXELS);
  const [left, top] = [(STICKER_PIXELS - width) / 2, (STICKER_PIXELS - height) / 2];
  // A canvas that has no other context has this one.
  canvas.getContext('2d')!.drawImage(picture, left, top, width, height);
  return canvas.convertToBlob({ type: 'image/webp' });
}

async function keysOf(mediaKey: Uint8Array<ArrayBuffer>): Promise<MediaKeys> {
  const material = await crypto.subtle.importKey('raw', mediaKey, 'HKDF', false, ['deriveBits']);
  const info = new TextEncoder().encode(KEY_INFO);
  const derived = await crypto.subtle.deriveBits(
    { name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(32), info },
    material,
    112 * 8,
  );
  const cipherKey = await crypto.subtle.importKey('raw', derived.slice(16, 48), 'AES-CBC', false, [
    'encrypt',
    'decrypt',
  ]);
  const hmac = { name: 'HMAC', hash: 'SHA-256' };
  const macKey = await crypto.subtle.importKey('raw', derived.slice(48, 80), hmac, false, ['sign']);
  return { iv: derived.slice(0, 16), cipherKey, macKey };
}

async function macOf(macKey: CryptoKey, iv: ArrayBuffer, encrypted: ArrayBuffer): Promise<ArrayBuffer> {
  const signed = await new Blob([iv, encrypted]).arrayBuffer();
  return (await crypto.subtle.sign('HMAC', macKey, signed)).slice(0, MAC_BYTES);
}

async function hashOf(bytes: ArrayBuffer): Promise<string> {
  return encodeB64(await crypto.subtle.digest('SHA-256', bytes));
}
