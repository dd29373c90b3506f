"""offsets.parquet says which classes each record holds."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imaging.codec import decode_mask, encode_png
from preprocess import job
from records.info import read_info
from records.mixing import read_presence
from records.schema import IGNORE, class_areas, decode
from records.shards import read_shard
from records.verify import verify
from tests.conftest import make_records

CLASSES = ["background", "wall", "roof", "never"]
LABELS = {  # by image: the mask's values, in 8 x 8 pixels
    "a": [0],
    "b": [0, 1],
    "c": [1, 2],
    "d": [2, IGNORE],
    "e": [IGNORE],
    "f": [0, 1, 2],
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Images in the folder layout whose masks hold `LABELS`."""
    folder = tmp_path_factory.mktemp("raw")
    generator = np.random.default_rng(0)
    for name, labels in LABELS.items():
        for kind, pixels in {
            "images": generator.integers(0, 256, (8, 8, 3), np.uint8),
            "masks": np.resize(np.array(labels, np.uint8), (8, 8)),
        }.items():
            (folder / kind).mkdir(exist_ok=True)
            (folder / kind / f"{name}.png").write_bytes(encode_png(pixels))
    return folder


@pytest.fixture(scope="module")
def held_records(raw, tmp_path_factory):
    folder = tmp_path_factory.mktemp("held") / "records"
    make_records("folder", raw, folder, size=None, classes=CLASSES)
    return folder


def held_by_key(folder) -> dict[str, list[int] | None]:
    table = pq.read_table(folder / "offsets.parquet")
    return dict(zip(table["key"].to_pylist(), table["classes"].to_pylist(), strict=True))


def test_each_record_has_the_classes_of_its_mask_ascending(held_records):
    expected = {name: [label for label in labels if label != IGNORE] for name, labels in LABELS.items()}
    assert held_by_key(held_records) == expected
    assert pq.read_schema(held_records / "offsets.parquet").field("classes").type == pa.list_(pa.uint8())


def test_class_examples_of_info_are_the_sums_of_the_column(held_records):
    info = read_info(str(held_records))
    table = pd.read_parquet(held_records / "offsets.parquet")
    seen = 0
    for split, content in info.splits.items():
        held = table.loc[table["split"] == split, "classes"]
        counts = [sum(number in classes for classes in held) for number in range(len(CLASSES))]
        assert content.class_examples == counts
        seen += sum(counts)
    assert seen == sum(len(labels) - (IGNORE in labels) for labels in LABELS.values())


def test_the_column_agrees_with_the_masks_in_the_order_of_the_records(nuclei_records):
    info = read_info(str(nuclei_records))
    files = info.shard_files(str(nuclei_records), ["test", "train"])
    masks = [decode_mask(decode(record).mask) for file in files for record in read_shard(file.path)]
    expected = [class_areas(mask, [0, 1], overlapping=False).any((1, 2)) for mask in masks]
    np.testing.assert_array_equal(read_presence(str(nuclei_records), info, files), expected)


def test_unlabelled_records_hold_nothing_that_is_known(raw, tmp_path):
    info = make_records("folder", raw, tmp_path / "records", size=None, classes=CLASSES, unlabeled=True)
    assert held_by_key(tmp_path / "records") == dict.fromkeys(LABELS)
    assert list(verify(str(tmp_path / "records"), info, lambda done: None)) == []
    with pytest.raises(ValueError, match="expected labelled records"):
        read_presence(str(tmp_path / "records"), info, info.shard_files(str(tmp_path / "records"), ["test"]))


def test_verify_names_a_record_that_holds_other_classes_than_the_table_says(held_records, tmp_path):
    folder = tmp_path / "records"
    folder.mkdir()
    for path in held_records.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    info = read_info(str(folder))
    assert list(verify(str(folder), info, lambda done: None)) == []
    table = pq.read_table(folder / "offsets.parquet")
    rows = table.to_pylist()
    wrong = next(number for number, row in enumerate(rows) if row["key"] == "c")
    rows[wrong]["classes"] = [2, 3]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), folder / "offsets.parquet")
    assert list(verify(str(folder), info, lambda done: None)) == [
        f"{folder}/{rows[wrong]['shard']}: record {rows[wrong]['position']}: "
        "offsets.parquet says that it holds classes [2, 3], it holds [1, 2]"
    ]
    pq.write_table(table.drop_columns("classes"), folder / "offsets.parquet")
    assert list(verify(str(folder), info, lambda done: None)) == []
    (folder / "offsets.parquet").write_bytes(b"PAR1 nothing PAR1")
    assert set(verify(str(folder), info, lambda done: None)).pop().startswith(f"{folder}/offsets.parquet: cannot be")


def test_a_report_that_another_version_wrote_is_made_again(raw, held_records, tmp_path, monkeypatch):
    # As after an update in the middle of a job: without the classes of its records the column would have holes.
    def stop(*_):
        raise KeyboardInterrupt

    folder = tmp_path / "records"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(job, "commit", stop)
        make_records("folder", raw, folder, size=None, classes=CLASSES)
    paths = list(folder.glob("*.tfrecord-*.json"))
    assert paths
    for path in paths:
        content = json.loads(path.read_text())
        del content["record_classes"], content["record_class_counts"]
        path.write_text(json.dumps(content))
    make_records("folder", raw, folder, size=None, classes=CLASSES)
    assert held_by_key(folder) == held_by_key(held_records)
