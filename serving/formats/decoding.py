"""Image files to what a model sees, as operations of TensorFlow: `imaging.codec` and `inference.images.prepare` again.

Equal to these, bit for bit, for PNG and JPEG of the size that the model wants. Images of another size are averaged over
areas where they shrink, which is equal too, and bilinear where they grow: there OpenCV rounds its weights, so values
differ by up to 2 of 255. Where colours become grey and 8 bits become 16, or the other way, grey is rounded at 16 bits,
not at the file's depth.
"""

import tensorflow as tf

# OpenCV's weights of red, green and blue in grey, in parts of 2**15 (ITU-R BT.601).
_LUMA, _LUMA_BITS = (9798, 19235, 3735), 15


def decode_files(
    files: tf.Tensor, height: int | None, width: int | None, channels: int, dtype: tf.DType | str
) -> tf.Tensor:
    """Returns pixels [batch, height, width, channels] of image files.

    Args:
      files: string [batch], PNG or JPEG each.
      height, width: to which images are stretched; None: they stay as they are, all of a batch of one size.
      channels: 1 or 3.
      dtype: uint8 or uint16.
    """
    dtype = tf.as_dtype(dtype)

    def decode(file):
        pixels = _decode(file, dtype)
        if height is not None:
            pixels = _stretch(pixels, height, width)
        return _grey(pixels) if channels == 1 else pixels

    return tf.map_fn(decode, files, fn_output_signature=tf.TensorSpec([height, width, channels], dtype))


def pad_images(images: tf.Tensor, multiple: int, darkest: bool) -> tf.Tensor:
    """Returns images [batch, height, width, channels] with more rows below and columns at the right.

    Args:
      images: uint8 or uint16.
      multiple: of which height and width become multiples.
      darkest: whether what is added is the darkest value of each image; else 0.
    """
    fill = tf.reduce_min(images, [1, 2, 3], keepdims=True) if darkest else tf.zeros([], images.dtype)
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    return tf.pad(images - fill, [[0, 0], [0, -height % multiple], [0, -width % multiple], [0, 0]]) + fill


def _decode(file: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns [height, width, 3]. Grey has three equal channels; alpha is dropped."""
    wide = tf.cond(
        tf.strings.substr(file, 0, 3) == b"\xff\xd8\xff",
        # The accurate transform gives OpenCV's very pixels.
        lambda: tf.cast(tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE"), tf.uint16) * 257,
        lambda: tf.io.decode_png(file, channels=3, dtype=tf.uint16),
    )
    if dtype == tf.uint16:
        return wide
    # To uint8 the decoder cuts 16 bits off; preprocess rounds.
    return tf.cast((tf.cast(wide, tf.int32) + 128) // 257, tf.uint8)


def _stretch(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Does what `imaging.resize.resize_image` does: first rows, then columns, rounded in between."""
    for size in ((height, tf.shape(image)[1]), (height, width)):
        shrinks = (size[0] < tf.shape(image)[0]) | (size[1] < tf.shape(image)[1])
        resized = tf.cond(
            shrinks,
            lambda image=image, size=size: tf.image.resize(image, size, method="area"),
            lambda image=image, size=size: tf.image.resize(image, size),
        )
        image = tf.saturate_cast(tf.round(resized), image.dtype)
    return image


def _grey(image: tf.Tensor) -> tf.Tensor:
    parts = tf.cast(image, tf.int32) * tf.constant(_LUMA)
    luma = (tf.reduce_sum(parts, -1, keepdims=True) + 2 ** (_LUMA_BITS - 1)) // 2**_LUMA_BITS
    return tf.cast(luma, image.dtype)
