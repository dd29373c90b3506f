"""The code blocks of docs/interoperability.md, run on small records."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from imaging.codec import decode_image, decode_mask
from records.info import read_info
from records.schema import decode
from records.shards import read_shard

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "interoperability.md").read_text()
BLOCKS = dict(re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))

STAND_IN = """
import numpy as np

class Dataset:
    pass

class DataLoader:
    def __init__(self, dataset, batch_size, shuffle, num_workers):
        self.dataset, self.batch_size = dataset, batch_size

    def __iter__(self):
        for start in range(0, len(self.dataset), self.batch_size):
            indices = range(start, min(start + self.batch_size, len(self.dataset)))
            yield [np.stack(parts) for parts in zip(*(self.dataset[index] for index in indices))]
"""

REPORT = """
import json, sys
import numpy as np

images, masks = (np.concatenate(parts) for parts in zip(*([np.asarray(part) for part in batch] for batch in batches)))
sums = sorted([int(image.sum()), int(mask.sum())] for image, mask in zip(images, masks))
print(json.dumps({"shapes": [images.shape, masks.shape], "sums": sums, "tensorflow": "tensorflow" in sys.modules}))
"""


@pytest.fixture
def folder(nuclei_records, tmp_path, monkeypatch):
    """The records under the path that the document gives them."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "nuclei").symlink_to(nuclei_records)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data" / "nuclei"


def run(heading):
    """Returns the names that the heading's block defines."""
    names = {}
    exec(compile(BLOCKS[heading], heading, "exec"), names)
    return names


def training_records(folder):
    """Returns the records of the training split by key, read from the shards' beginning to their end."""
    files = read_info(str(folder)).shard_files(str(folder), ["train"])
    return {record.source_id: record for file in files for record in map(decode, read_shard(file.path))}


def test_the_document_has_the_blocks_that_are_tested():
    assert list(BLOCKS) == [
        "TensorFlow Datasets",
        "Keras with nothing but tf.data",
        "TensorFlow Model Garden",
        "PyTorch, without TensorFlow",
        "One record by its key, with pandas",
    ]
    assert TEXT.count("```python") == len(BLOCKS)


def test_tensorflow_datasets_gives_every_training_example_decoded(folder):
    records = training_records(folder)
    seen = []
    for example in run("TensorFlow Datasets")["examples"]:
        record = records[example["image"]["source_id"].numpy().decode()]
        seen.append(record.source_id)
        np.testing.assert_array_equal(example["image"]["encoded"], decode_image(record.image))
        np.testing.assert_array_equal(
            example["image"]["segmentation"]["class"]["encoded"][:, :, 0], decode_mask(record.mask)
        )
    assert sorted(seen) == sorted(records)


def test_keras_learns_from_the_shards_with_nothing_of_ours(folder):
    block = BLOCKS["Keras with nothing but tf.data"]
    assert re.findall(r"^(?:import|from) (\w+)", block, re.MULTILINE) == ["tensorflow"]
    tf.keras.utils.set_random_seed(0)
    names = run("Keras with nothing but tf.data")
    losses = names["model"].history.history["loss"]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    records = training_records(folder)
    images, masks = zip(*names["examples"].as_numpy_iterator(), strict=True)
    assert sorted(map(bytes, images)) == sorted(bytes(decode_image(record.image)) for record in records.values())
    assert sorted(map(bytes, masks)) == sorted(bytes(decode_mask(record.mask)) for record in records.values())


def test_what_model_gardens_decoder_asks_for_is_in_the_shards(folder):
    # A plain account of its decoder, which is not among this project's dependencies: four keys, 8 bit, no default used.
    bytes_keys = ["image/encoded", "image/segmentation/class/encoded"]
    wanted = {key: tf.io.FixedLenFeature([], tf.string) for key in bytes_keys}
    wanted |= {key: tf.io.FixedLenFeature([], tf.int64) for key in ("image/height", "image/width")}
    assert all(f"`{key}`" in TEXT for key in wanted)
    file = read_info(str(folder)).shard_files(str(folder), ["train"])[0]
    for serialized in tf.data.TFRecordDataset(file.path):
        example = tf.io.parse_single_example(serialized, wanted)
        size = (example["image/height"], example["image/width"])
        image = tf.io.decode_image(example["image/encoded"], channels=3, dtype=tf.uint8)
        mask = tf.io.decode_image(example["image/segmentation/class/encoded"], channels=1)
        record = decode(serialized.numpy())
        np.testing.assert_array_equal(tf.reshape(image, (*size, 3)), decode_image(record.image))
        np.testing.assert_array_equal(tf.reshape(mask, size), decode_mask(record.mask))


@pytest.mark.skipif(importlib.util.find_spec("official") is None, reason="tf-models-official is not installed")
def test_model_garden_trains_on_the_shards(folder):
    run("TensorFlow Model Garden")
    assert tf.train.latest_checkpoint("runs/garden").endswith("-10")


def test_pytorch_reads_every_training_example_without_tensorflow(folder, tmp_path):
    records = training_records(folder)
    paths = [str(ROOT)]
    if importlib.util.find_spec("torch") is None:  # a stand-in, so that the reader at least is tested
        stand_in = tmp_path / "stand_in" / "torch" / "utils"
        stand_in.mkdir(parents=True)
        (stand_in / "data.py").write_text(STAND_IN)
        paths.append(str(tmp_path / "stand_in"))
    script = tmp_path / "read.py"
    script.write_text(BLOCKS["PyTorch, without TensorFlow"] + REPORT)
    ended = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report["shapes"] == [[len(records), 3, 64, 64], [len(records), 64, 64]]
    assert report["sums"] == sorted(
        [int(decode_image(record.image).sum()), int(decode_mask(record.mask).sum())] for record in records.values()
    )
    assert report["tensorflow"] is False


def test_pandas_finds_one_record_by_its_key(folder):
    names = run("One record by its key, with pandas")
    assert names["record"].source_id == names["key"]
    assert names["record"] in training_records(folder).values()
