"""Squares of images: random ones for training, and the tiles that cover an image for evaluation.

A window is int32 [4]: (y, x, height, width) in pixels, inside its image. Along an axis on which the image is shorter
than the square, the window is all there is, and what lacks at the bottom or the right is filled: pixels of 0, ignored
in the mask.
"""

import tensorflow as tf

from records.info import RecordsInfo
from records.schema import IGNORE, IGNORE_BIT, ignore_value
from records.window import cut_window

Example = dict[str, tf.Tensor]

_FEW = 15
"""So many classes, all that masks of overlapping ones can hold, are looked for one by one about as fast as all values
are counted."""


def choose_window(
    mask: tf.Tensor, size: int, foreground_probability: float, info: RecordsInfo, seed: tf.Tensor
) -> tf.Tensor:
    """Returns a random window of size x size pixels, a function of the seed and the mask.

    With the probability given it is centred, as far as the image allows, on a pixel drawn from those of a class drawn
    from the scored ones that the mask holds. Else, and where the mask holds none of them, every window inside the image
    is equally likely.

    Args:
      mask: uint8 class indices or uint16 bit fields [height, width].
      size: side of the window.
      foreground_probability: from 0 to 1.
      info: says which classes are scored.
      seed: int64 [2], another for every window.
    """
    extent = tf.shape(mask)
    sides = tf.minimum(extent, size)
    # Philox by name, because TensorFlow's own choice depends on the device.
    draws = tf.random.stateless_uniform([5], seed, dtype=tf.float64, alg="philox")
    anywhere = _choose(draws[:2], extent - sides + 1)
    if not foreground_probability:
        return tf.concat([anywhere, sides], 0)

    def around_foreground():
        pixel, found = _draw_pixel(mask, info, draws[3:])
        around = tf.clip_by_value(pixel - sides // 2, 0, extent - sides)
        return tf.where(found, around, anywhere)

    start = tf.cond(draws[2] < foreground_probability, around_foreground, lambda: anywhere)
    return tf.concat([start, sides], 0)


def pad(example: Example, size: int, info: RecordsInfo) -> Example:
    """Returns the example with its image, and its mask if it has one, filled up at the bottom and the right.

    Args:
      example: "image" [height, width, channels] and "mask" [height, width], at most size x size, and anything else.
      size: side of the square.
      info: of the records.
    """
    image = example["image"]
    lacking = size - tf.shape(image)[:2]
    edges = tf.stack([tf.zeros_like(lacking), lacking], 1)  # (before, after) of each axis
    padded = tf.pad(image, tf.concat([edges, [[0, 0]]], 0))
    padded.set_shape([size, size, info.channels])
    example = example | {"image": padded}
    if "mask" in example:
        mask = example["mask"]
        filled = tf.pad(mask, edges, constant_values=tf.constant(ignore_value(info.overlapping), mask.dtype))
        filled.set_shape([size, size])
        example["mask"] = filled
    return example


def tiles(
    example: Example, size: int, info: RecordsInfo, whole_masks: bool = False, overlap: int = 0
) -> tf.data.Dataset:
    """Returns the tiles that cover an image, row by row from the top left, as `imaging.tiling.tile_windows` has them.

    The last tile of a row or column is moved back to end at the image's edge. What it shares with the one before is
    ignored in its mask, so that every pixel counts in exactly one tile; not with whole masks.

    Args:
      example: of a whole image, as `records.schema.parse` returns it.
      size: side of a tile.
      info: of the records.
      whole_masks: whether a mask says what all its tile shows, for those who judge tiles, or put them together.
      overlap: pixels that neighbours share; above 0 with whole masks.

    Returns:
      A dataset of examples as this one, of size x size pixels, with "tile" int32 [4]: the window in the image.
    """
    extent = tf.shape(example["image"])[:2]
    step = size - overlap
    counts = 1 - (-tf.maximum(0, extent - size) // step)

    def cut(index):
        place = tf.stack([index // counts[1], index % counts[1]]) * step
        start = tf.maximum(0, tf.minimum(place, extent - size))
        window = tf.concat([start, tf.minimum(extent, size)], 0)
        part = {"image": cut_window(example["image"], window), "tile": window}
        if "mask" in example:
            mask = cut_window(example["mask"], window)
            if not whole_masks:
                rows, columns = (tf.range(window[axis + 2]) + start[axis] >= place[axis] for axis in (0, 1))
                unknown = tf.constant(ignore_value(info.overlapping), mask.dtype)
                mask = tf.where(rows[:, None] & columns, mask, unknown)
            part["mask"] = mask
        return pad(example | part, size, info)

    return tf.data.Dataset.from_tensor_slices(tf.range(counts[0] * counts[1])).map(cut)


def _choose(draw: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Returns a whole number below the count, int32, from a draw in [0, 1), float64: uniform to 1 part in 2**52."""
    return tf.cast(draw * tf.cast(count, tf.float64), tf.int32)


def _draw_pixel(mask: tf.Tensor, info: RecordsInfo, draws: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns (y, x) int32 [2] of a pixel of a scored class, from two draws, and whether the mask holds any."""
    present = _present(mask, info)
    class_index, _ = _find(present, _choose(draws[0], tf.reduce_sum(present)))
    number = tf.constant(info.scored_classes, mask.dtype)[class_index]
    area = tf.cast(_holds(mask, number, info.overlapping), tf.int32)
    # Its row first, which is cheaper than a list of the places of all.
    counts = tf.reduce_sum(area, 1)
    total = tf.reduce_sum(counts)
    y, rank = _find(counts, _choose(draws[1], total))
    x, _ = _find(area[y], rank)
    return tf.stack([y, x]), total > 0


def _find(counts: tf.Tensor, rank: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns (the place in `counts` where as many as `rank` have been counted and one more comes, its rank there).

    Where there are not so many, the place is the last.
    """
    ends = tf.cumsum(counts)
    place = tf.minimum(tf.reduce_sum(tf.cast(ends <= rank, tf.int32)), tf.size(counts) - 1)
    return place, rank - ends[place] + counts[place]


def _present(mask: tf.Tensor, info: RecordsInfo) -> tf.Tensor:
    """Returns int32 [scored classes]: 1 for those that the mask holds, else 0."""
    scored = info.scored_classes
    if len(scored) <= _FEW:
        dtype, overlapping = mask.dtype, info.overlapping
        holds = [tf.reduce_any(_holds(mask, tf.constant(number, dtype), overlapping)) for number in scored]
        return tf.cast(tf.stack(holds), tf.int32)
    counts = tf.math.bincount(tf.cast(tf.reshape(mask, [-1]), tf.int32), minlength=IGNORE + 1)
    return tf.cast(tf.gather(counts, scored) > 0, tf.int32)


def _holds(mask: tf.Tensor, number: tf.Tensor, overlapping: bool) -> tf.Tensor:
    """Returns where a mask holds a class, its number of the mask's dtype; ignored pixels hold none."""
    if not overlapping:
        return mask == number
    bit = tf.bitwise.left_shift(tf.ones_like(number), number)
    return (tf.bitwise.bitwise_and(mask, bit) > 0) & (mask < IGNORE_BIT)
