"""Loaders of TensorFlow: ours, and what its guides tell to build.

Each yields uint8 images and masks of shuffled examples, endlessly. TensorFlow is imported by who runs one.
"""

from collections.abc import Iterator

import numpy as np

from benchmarks.loaders.layouts import RECORDS
from benchmarks.loaders.opencv import Batches, file_pairs, read_decoder
from records.config import InputConfig
from records.files import join
from records.info import RecordsInfo, read_info

_SHUFFLED = 2048
"""Examples in the shuffle buffers of the alternatives; ours has a budget in MiB, which holds more."""


def our_batches(folder: str, batch_size: int, cores: int) -> Batches:
    """Yields `train_batches` as training has them: seeded order that can be resumed, shards checked; nothing cached."""
    return _ours(folder, batch_size, InputConfig(cache_mib=0))


def our_crops(folder: str, batch_size: int, cores: int) -> Batches:
    """Yields random crops from `train_batches`, which decodes only what it needs of a JPEG."""
    return _ours(folder, batch_size, InputConfig(cache_mib=0, crop=CROP))


CROP = 256
"""Height and width of random crops."""


def _ours(folder: str, batch_size: int, config: InputConfig) -> Batches:
    from records.damage import ShardCheck, explain_damage
    from records.input_pipeline import train_batches

    records = join(folder, RECORDS)
    info = read_info(records)
    files = info.shard_files(records, ["train"])
    with ShardCheck(records, info, files) as check, explain_damage(records, info, files):
        for batch in train_batches(files, info, batch_size, 0, config):
            check.raise_if_damaged()
            yield batch["image"], batch["mask"]


def plain_tf_data(folder: str, batch_size: int, cores: int) -> Batches:
    """Yields what the guide "Better performance with the tf.data API" leads to: everything parallel, in any order."""
    yield from _plain(folder, batch_size, crop=None)


def decode_then_crop(folder: str, batch_size: int, cores: int) -> Batches:
    """Yields random crops of the same pipeline, cut out of the whole decoded image."""
    yield from _plain(folder, batch_size, CROP)


def _plain(folder: str, batch_size: int, crop: int | None):
    import tensorflow as tf

    info = read_info(join(folder, RECORDS))
    files = tf.data.Dataset.list_files(join(folder, f"{RECORDS}/*.tfrecord-*"))
    records = files.interleave(tf.data.TFRecordDataset, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False)
    keys = ("image/encoded", "image/segmentation/class/encoded")
    wanted = {key: tf.io.FixedLenFeature([], tf.string) for key in keys}

    def parse(serialized):
        features = tf.io.parse_single_example(serialized, wanted)
        image, mask = _decode(*(features[key] for key in keys), info)
        return (image, mask) if crop is None else _random_crop(image, mask, crop)

    # Shuffled before decoding: serialized examples take less memory, and are copied faster.
    shuffled = records.shuffle(_SHUFFLED).repeat().map(parse, tf.data.AUTOTUNE, deterministic=False)
    yield from shuffled.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def _decode(image, mask, info: RecordsInfo):
    import tensorflow as tf

    shape = [info.height, info.width, info.channels]
    if info.coding == "raw":
        pixels = tf.reshape(tf.io.decode_raw(image, tf.uint8), shape)
    elif info.config["coding"] == "jpeg":
        pixels = tf.io.decode_jpeg(image, channels=info.channels)
    else:
        pixels = tf.io.decode_png(image, channels=info.channels)
    return tf.ensure_shape(pixels, shape), tf.io.decode_png(mask, channels=1)[:, :, 0]


def _random_crop(image, mask, size: int):
    import tensorflow as tf

    shape = tf.shape(mask)
    y, x = (tf.random.uniform([], 0, shape[axis] - size + 1, tf.int32) for axis in (0, 1))
    return image[y : y + size, x : x + size], mask[y : y + size, x : x + size]


def keras_sequence(folder: str, batch_size: int, cores: int) -> Batches:
    """Yields from a `Sequence` that decodes files with OpenCV, filled by Keras' own queue with a thread a core.

    Threads, as OpenCV needs no lock to decode; with `use_multiprocessing`, which copies every batch between processes,
    it gave 28 to 74 images/s where threads gave 1,542 to 2,255 (2 cores, JPEG).
    """
    import cv2
    import tensorflow as tf

    cv2.setNumThreads(1)  # the queue's threads are the cores
    decoder = read_decoder(folder)
    generator = np.random.default_rng(0)

    class Photographs(tf.keras.utils.Sequence):
        """Batches of a folder of files."""

        def __init__(self):
            self._pairs = file_pairs(folder)
            self.on_epoch_end()

        def __len__(self):
            return len(self._pairs) // batch_size

        def __getitem__(self, index):
            chosen = self._order[index * batch_size : (index + 1) * batch_size]
            pairs = (self._pairs[number] for number in chosen)
            examples = [decoder(image.read_bytes(), mask.read_bytes()) for image, mask in pairs]
            images, masks = zip(*examples, strict=True)
            return np.stack(images), np.stack(masks)

        def on_epoch_end(self):
            self._order = generator.permutation(len(self._pairs))

    queue = tf.keras.utils.OrderedEnqueuer(Photographs())
    queue.start(workers=cores, max_queue_size=10)
    try:
        yield from queue.get()
    finally:
        queue.stop()


def from_generator(folder: str, batch_size: int, cores: int) -> Batches:
    """Yields from `Dataset.from_generator`, a generator a core, interleaved, over files decoded with OpenCV."""
    import cv2
    import tensorflow as tf

    cv2.setNumThreads(1)
    decoder = read_decoder(folder)
    info = read_info(join(folder, RECORDS))
    pairs = file_pairs(folder)
    random = np.random.default_rng(0)

    def examples(part: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number in random.permutation(range(part, len(pairs), cores)):
            image, mask = pairs[number]
            yield decoder(image.read_bytes(), mask.read_bytes())

    shapes = ([info.height, info.width, info.channels], [info.height, info.width])
    signature = tuple(tf.TensorSpec(shape, tf.uint8) for shape in shapes)
    dataset = tf.data.Dataset.range(cores).interleave(
        lambda part: tf.data.Dataset.from_generator(examples, args=(part,), output_signature=signature),
        cycle_length=cores,
        num_parallel_calls=cores,
        deterministic=False,
    )
    yield from dataset.repeat().batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def tensorflow_datasets(folder: str, batch_size: int, cores: int) -> Batches:
    """Yields from the reader of TensorFlow Datasets, with what its page on performance advises.

    It decodes only the two features that are wanted, and only after shuffling.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    info = read_info(join(folder, RECORDS))
    builder = tfds.builder_from_directory(join(folder, RECORDS))
    skip = tfds.decode.SkipDecoding()
    features = {"image": {"encoded": skip, "segmentation": {"class": {"encoded": skip}}}}
    wanted = {"image": {"encoded": True, "segmentation": {"class": {"encoded": True}}}}
    read_config = tfds.ReadConfig(try_autocache=False, skip_prefetch=True, interleave_cycle_length=16)
    examples = builder.as_dataset(
        split="train",
        shuffle_files=True,
        read_config=read_config,
        decoders=tfds.decode.PartialDecoding(wanted, decoders=features),
    )

    def parse(example):
        image = example["image"]
        return _decode(image["encoded"], image["segmentation"]["class"]["encoded"], info)

    shuffled = examples.shuffle(_SHUFFLED).repeat().map(parse, tf.data.AUTOTUNE, deterministic=False)
    yield from shuffled.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
