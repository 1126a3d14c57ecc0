/** The part of libheif that Flotilla uses. The package describes this file only for a build that must be started first. */
declare module 'libheif-js/wasm-bundle.js' {
  interface Failure {
    /** Also 0 for no failure. */
    code: { value: number };
    message: string;
  }
  interface Channel {
    width: number;
    height: number;
    /** The bytes of a row, which may be more than its pixels need. */
    stride: number;
    data: Uint8Array;
  }
  const libheif: {
    heif_context_alloc(): object;
    heif_context_read_from_memory(context: object, bytes: Uint8Array): Failure;
    heif_js_context_get_primary_image_handle(context: object): object | Failure;
    heif_image_handle_get_width(image: object): number;
    heif_image_handle_get_height(image: object): number;
    heif_image_handle_has_alpha_channel(image: object): number;
    heif_js_decode_image2(
      image: object,
      colorspace: object,
      chroma: object,
    ): Promise<{ channels: Channel[] } | Failure>;
    heif_colorspace: { heif_colorspace_RGB: object };
    heif_chroma: { heif_chroma_interleaved_RGB: object; heif_chroma_interleaved_RGBA: object };
  };
  export default libheif;
}
