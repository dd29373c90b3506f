"""Loaders of PyTorch's world: its DataLoader over files, WebDataset, MosaicML streaming.

Each yields uint8 tensors of images and masks of shuffled examples, endlessly. A worker process a core decodes with
OpenCV and puts whole batches together, since single examples are slow to pass between processes.
"""

from functools import partial
from pathlib import Path

import cv2

from benchmarks.loaders.layouts import MDS, TARS
from benchmarks.loaders.opencv import Batches, Decoder, file_pairs, read_decoder
from records.files import join

_AHEAD = 4
"""Batches that a worker prepares."""


def data_loader(folder: str, batch_size: int, cores: int) -> Batches:
    """Yields from `torch.utils.data.DataLoader` over a map-style dataset of files."""
    from torch.utils.data import DataLoader

    class Photographs:
        """Decoded examples of a folder of files."""

        def __init__(self):
            self._pairs = file_pairs(folder)
            self._decoder = read_decoder(folder)

        def __len__(self):
            return len(self._pairs)

        def __getitem__(self, index):
            image, mask = self._pairs[index]
            return self._decoder(image.read_bytes(), mask.read_bytes())

    yield from _endless(DataLoader(Photographs(), batch_size, shuffle=True, drop_last=True, **_workers(cores)))


def webdataset(folder: str, batch_size: int, cores: int) -> Batches:
    """Yields from WebDataset: shards and a buffer of undecoded examples shuffled, batches made in the workers."""
    import webdataset as wds
    from torch.utils.data import default_collate

    decoder = read_decoder(folder)
    paths = sorted(str(path) for path in Path(folder, TARS).iterdir())
    examples = wds.WebDataset(paths, shardshuffle=len(paths)).shuffle(1000).to_tuple("image", "mask")
    batches = examples.map(lambda pair: decoder(*pair)).batched(batch_size, collation_fn=default_collate)
    yield from _endless(wds.WebLoader(batches, batch_size=None, **_workers(cores)))


def mosaicml_streaming(folder: str, batch_size: int, cores: int) -> Batches:
    """Yields from MosaicML's StreamingDataset over local MDS shards of encoded bytes."""
    from streaming import StreamingDataLoader, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()  # of a run that was killed; it refuses to start beside it
    dataset = StreamingDataset(local=join(folder, MDS), shuffle=True, batch_size=batch_size)
    collate = partial(_collate, read_decoder(folder))
    loader = StreamingDataLoader(dataset, batch_size=batch_size, drop_last=True, collate_fn=collate, **_workers(cores))
    yield from _endless(loader)


def _collate(decoder: Decoder, examples: list[dict[str, bytes]]):
    """Returns the batch of decoded examples; called in the workers."""
    from torch.utils.data import default_collate

    return default_collate([decoder(example["image"], example["mask"]) for example in examples])


def _workers(cores: int) -> dict:
    return {
        "num_workers": cores,
        "multiprocessing_context": "fork",  # PyTorch's own choice on Linux; a spawned process would hand on its own
        "persistent_workers": True,
        "prefetch_factor": _AHEAD,
        "worker_init_fn": _one_thread,
    }


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # PyTorch gives its own threads up in workers by itself


def _endless(loader):
    while True:
        yield from loader
