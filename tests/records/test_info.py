import dataclasses
import json

import pytest

from records.info import FORMAT_VERSION, INFO_FILE, read_info
from records.shards import Shard


def rewrite(folder, **changes):
    content = json.loads((folder / INFO_FILE).read_text())
    (folder / INFO_FILE).write_text(json.dumps(content | changes))


def test_what_was_written_is_read_back(small_records):
    folder, info, _ = small_records
    assert read_info(str(folder)) == info
    assert read_info(f"{folder}/") == info


def test_counts_of_examples_add_up_over_shards(small_records):
    _, info, _ = small_records
    assert {name: split.num_examples for name, split in info.splits.items()} == {"train": 5, "val": 2, "test": 0}


def test_the_shards_of_a_split_are_all_there_in_order(small_records):
    _, info, _ = small_records
    assert info.shards("train") == [Shard("made", "train", 0, 2), Shard("made", "train", 1, 2)]
    assert info.shards("val") == [Shard("made", "val", 0, 1)]


@pytest.mark.parametrize("split", ["test", "holdout"])
def test_a_split_that_is_empty_or_unknown_is_refused_and_the_others_listed(small_records, split):
    _, info, _ = small_records
    with pytest.raises(ValueError, match=rf"expected a split that has examples \(train, val\), found '{split}'"):
        info.shards(split)


def test_an_unfinished_folder_is_refused_and_what_to_do_is_said(small_records):
    folder, _, _ = small_records
    (folder / INFO_FILE).unlink()
    with pytest.raises(ValueError, match=rf"{folder}: expected finished records, found no info.json; .*preprocess"):
        read_info(str(folder))


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nowhere: expected a folder of records, found no such folder"):
        read_info(str(tmp_path / "nowhere"))


def test_a_missing_shard_is_named(small_records):
    folder, info, _ = small_records
    name = info.shards("train")[1].name
    (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"{folder}/{name}: expected \d+ bytes, found no such file"):
        read_info(str(folder))


def test_a_shortened_shard_is_named_with_both_lengths(small_records):
    folder, info, _ = small_records
    path = folder / info.shards("val")[0].name
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match=rf"{path}: expected {size} bytes, found {size - 7};"):
        read_info(str(folder))


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, None, "1"])
def test_another_format_version_is_refused(small_records, version):
    folder, _, _ = small_records
    rewrite(folder, format_version=version)
    with pytest.raises(ValueError, match=rf"info.json: expected format version {FORMAT_VERSION}, found {version}"):
        read_info(str(folder))


def test_an_info_file_that_is_no_json_is_named(small_records):
    folder, info, _ = small_records
    (folder / INFO_FILE).write_text(info.to_json()[:-40])
    with pytest.raises(ValueError, match=str(folder / INFO_FILE)):
        read_info(str(folder))


def test_a_missing_or_strange_key_of_the_info_file_is_named(small_records):
    folder, info, _ = small_records
    rewrite(folder, colour="blue")
    with pytest.raises(ValueError, match=f"{folder / INFO_FILE}.*colour"):
        read_info(str(folder))
    content = json.loads(info.to_json())
    del content["mean"]
    (folder / INFO_FILE).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"{folder / INFO_FILE}.*mean"):
        read_info(str(folder))


def test_info_json_is_readable_and_ends_with_a_newline(small_records):
    folder, info, _ = small_records
    text = (folder / INFO_FILE).read_text()
    assert text.endswith("}\n")
    assert json.loads(text) == dataclasses.asdict(info)
    assert json.loads(text)["format_version"] == FORMAT_VERSION


@pytest.mark.parametrize(
    ("classes", "scored"),
    [
        (["background", "nucleus"], [1]),
        (["sky", "ground"], [1]),
        (["background", "a", "b"], [1, 2]),
        (["sky", "tree", "road"], [0, 1, 2]),
    ],
)
def test_scores_are_about_all_classes_but_the_background(small_records, classes, scored):
    _, info, _ = small_records
    assert dataclasses.replace(info, classes=classes).scored_classes == scored


@pytest.mark.parametrize("classes", [["tumour"], ["a", "b"], ["background", "a", "b"]])
def test_overlapping_classes_have_no_background(small_records, classes):
    _, info, _ = small_records
    found = dataclasses.replace(info, classes=classes, overlapping=True).scored_classes
    assert found == list(range(len(classes)))


def test_folds_are_the_splits_of_that_name_in_the_order_of_their_numbers(small_records):
    _, info, _ = small_records
    assert info.folds == []
    names = ["fold10", "fold2", "test", "fold0", "folder1"]
    splits = dict.fromkeys(names, info.splits["train"])
    assert dataclasses.replace(info, splits=splits).folds == ["fold0", "fold2", "fold10"]


def test_a_window_of_values_becomes_one_of_stored_pixels(small_records):
    _, info, _ = small_records
    assert info.stored_window(None) is None
    assert info.stored_window((3, 9)) == (3, 9)
    scan = dataclasses.replace(info, intensity={"offset": -32768, "slope": 1, "unit": "HU", "transform": "none"})
    assert scan.stored_window((-1000, 400)) == (31768, 33168)
    steep = dataclasses.replace(info, intensity={"offset": 10, "slope": -0.5, "unit": "HU", "transform": "none"})
    assert steep.stored_window((-10, 5)) == (40, 10)
