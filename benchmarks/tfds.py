"""The same conversion as a dataset of TensorFlow Datasets, written by its own Beam writer.

The builder is what its guide to Beam datasets asks for: `_generate_examples` returns a Beam transform over the image
folders. In its favour there is one split, and as many shards as the loop makes, so that all workers write at the end.
"""

from pathlib import Path

import apache_beam as beam
import numpy as np
import tensorflow_datasets as tfds
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from benchmarks.pool import SHARDS_PER_WORKER, SIZE, image_folders, read_folder
from imaging.codec import encode_png


class Nuclei(tfds.core.GeneratorBasedBuilder):
    """Images with class and instance masks."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, raw: str, data_dir: str, encoded: bool):
        """Reads from `raw`, writes into `data_dir`; `encoded`: see `write_dataset`."""
        self._encoded = encoded
        self._folders = [str(folder) for folder in image_folders(raw)]
        super().__init__(data_dir=data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="png"),
            "mask": tfds.features.Image(shape=(SIZE, SIZE, 1), encoding_format="png"),
            "instances": tfds.features.Image(shape=(SIZE, SIZE, 1), dtype=np.uint16, encoding_format="png"),
            "source_id": tfds.features.Text(),
            "filename": tfds.features.Text(),
            "group": tfds.features.Text(),
            "objects": tfds.features.Scalar(np.int64),
            "original_height": tfds.features.Scalar(np.int64),
            "original_width": tfds.features.Scalar(np.int64),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(self._folders)}

    def _generate_examples(self, folders):
        return beam.Create(folders) | beam.Map(_example, self._encoded)


def _example(folder: str, encoded: bool):
    """Returns (key, example)."""
    image, instances, facts = read_folder(Path(folder))
    mask = (instances > 0).astype(np.uint8)
    pixels = {"image": image, "mask": mask[:, :, np.newaxis], "instances": instances[:, :, np.newaxis]}
    if encoded:
        pixels = {name: encode_png(values) for name, values in pixels.items()}
    return facts["source_id"], pixels | facts


def write_dataset(raw: str, out: str, workers: int, encoded: bool) -> None:
    """Makes a dataset in a new folder `out`, in this process (one worker) or in Beam's worker processes (more).

    It is given PNG files that our codec made (`encoded`), or arrays that TensorFlow Datasets makes into PNGs, which
    takes it longer.
    """
    tfds.disable_progress_bar()
    mode = "in_memory" if workers == 1 else "multi_processing"
    config = tfds.download.DownloadConfig(
        beam_runner=FnApiRunner(),
        beam_options=PipelineOptions([f"--direct_running_mode={mode}", f"--direct_num_workers={workers}"]),
        num_shards=workers * SHARDS_PER_WORKER,
        try_download_gcs=False,
    )
    Nuclei(raw, out, encoded).download_and_prepare(file_format="tfrecord", download_config=config)
