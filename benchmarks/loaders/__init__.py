"""What gives batches of images and masks: the limit, ours, and what one would otherwise pick.

A loader is a function (folder, batch_size, cores) -> endless pairs of images and masks. `folder` is one that
`benchmarks.loaders.layouts.write_layouts` made; each loader reads its own form of the same examples there.
"""

import importlib
from collections.abc import Callable

from benchmarks.loaders import opencv, pytorch, tf_data
from benchmarks.loaders.opencv import Batches

Loader = Callable[[str, int, int], Batches]

LIMIT, OURS = "OpenCV loop", "ours"

LOADERS: dict[str, tuple[Loader, tuple[str, ...]]] = {
    LIMIT: (opencv.opencv_loop, ()),
    OURS: (tf_data.our_batches, ()),
    "plain tf.data": (tf_data.plain_tf_data, ()),
    "TensorFlow Datasets": (tf_data.tensorflow_datasets, ("tensorflow_datasets",)),
    "Keras Sequence": (tf_data.keras_sequence, ()),
    "from_generator": (tf_data.from_generator, ()),
    "PyTorch DataLoader": (pytorch.data_loader, ("torch",)),
    "WebDataset": (pytorch.webdataset, ("torch", "webdataset")),
    "MosaicML streaming": (pytorch.mosaicml_streaming, ("torch", "streaming")),
}
"""(function, packages it needs beyond requirements.txt) by name."""

CROP_LOADERS: dict[str, Loader] = {
    "ours, fused": tf_data.our_crops,
    "plain tf.data, decode then crop": tf_data.decode_then_crop,
}
"""Loaders of random crops of native-size images."""


def why_missing(name: str) -> str | None:
    """Returns why a loader of `LOADERS` cannot run here, or None if it can."""
    for package in LOADERS[name][1]:
        try:
            importlib.import_module(package)
        except Exception as error:  # a half-installed package raises anything
            return f"{package} cannot be imported ({error})"
    return None
