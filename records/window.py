"""Windows of images: int32 [4] (y, x, height, width) in pixels, inside the image."""

import tensorflow as tf

_MARGIN = 2


def cut_window(pixels: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Returns a window's pixels, [height, width, ...], of an image or a mask."""
    return pixels[window[0] : window[0] + window[2], window[1] : window[1] + window[3]]


def decode_jpeg_window(data: tf.Tensor, window: tf.Tensor, width: tf.Tensor, channels: int) -> tf.Tensor:
    """Returns a window's pixels of a JPEG, uint8 [height, width, channels]: those that decoding it whole gives there.

    The code of what lies above and beside the window is read too, because nothing tells where in the file a block
    begins; but only the window is transformed back to pixels, which is most of the work.

    Args:
      data: string [], a JPEG file.
      window: inside the image.
      width: int32 [], of the image.
      channels: 1 or 3, wanted; colours become grey, and grey colours.
    """
    # Where colours have half the width, libjpeg interpolates them between neighbouring columns, which it lacks at the
    # edges of what it decodes: the outermost two columns may differ. Rows it reads as it needs them.
    left = tf.minimum(window[1], _MARGIN)
    right = tf.minimum(width - window[1] - window[3], _MARGIN)
    wider = tf.stack([window[0], window[1] - left, window[2], left + window[3] + right])
    image = tf.image.decode_and_crop_jpeg(data, wider, channels=channels, dct_method="INTEGER_ACCURATE")
    return image[:, left : left + window[3]]
