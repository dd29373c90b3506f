"""Every layout from its synthetic twin to records that are in order, in our eyes and in TensorFlow Datasets'."""

import json
import shutil
from collections import Counter

import pandas as pd
import pytest

from imaging.codec import decode_mask
from preprocess.config import CtLayout, FolderLayout
from preprocess.synthetic import WRITERS, SyntheticConfig
from records.info import read_info
from records.schema import FEATURES, decode
from records.shards import read_shard
from records.verify import verify
from tests.conftest import make_records

CT = {"ct": CtLayout(mask="lung_mask")}
COLORS = {"layout": "folder", "folder": FolderLayout(colors="class_dict.csv", ignore=["Void"])}
SETTINGS = {"ct": CT, "colors": COLORS}


@pytest.fixture(scope="module")
def raw_dirs(tmp_path_factory):
    root = tmp_path_factory.mktemp("twins")
    for twin, write in WRITERS.items():
        write(root / twin, SyntheticConfig(images=10, seed=3))
    return root


def make(twin: str, raw, records, **settings):
    settings = {"layout": twin, "size": 32} | SETTINGS.get(twin, {}) | settings
    return make_records(settings.pop("layout"), raw, records, **settings)


@pytest.mark.parametrize("twin", WRITERS)
def test_records_of_every_layout_are_in_order(twin, raw_dirs, tmp_path):
    make(twin, raw_dirs / twin, tmp_path / "records")
    assert list(verify(str(tmp_path / "records"), read_info(str(tmp_path / "records")), lambda done: None)) == []


@pytest.mark.parametrize("twin", WRITERS)
def test_the_metadata_names_the_keys_that_all_records_have(twin, raw_dirs, tmp_path):
    folder = tmp_path / "records"
    info = make(twin, raw_dirs / twin, folder)
    found: Counter[str] = Counter()
    for split, split_info in info.splits.items():
        for shard in info.shards(split) if split_info.num_examples else []:
            for record in map(decode, read_shard(str(folder / shard.name))):
                found.update(key for key, name in OPTIONAL.items() if getattr(record, name) is not None)
    total = sum(split.num_examples for split in info.splits.values())
    named = set(leaves(json.loads((folder / "features.json").read_text())["content"]["features"]))
    assert named == {key for key, feature in FEATURES.items() if not feature.optional} | set(found)
    assert set(found.values()) <= {total}


OPTIONAL = {
    "image/segmentation/class/encoded": "mask",
    "image/segmentation/class/format": "mask",
    "image/segmentation/instance/encoded": "instances",
    "image/object/count": "objects",
    "image/slice_index": "slice_index",
    "image/spacing_mm": "spacing_mm",
}


def leaves(features: dict, prefix: str = ""):
    for name, feature in features.items():
        if "featuresDict" in feature:
            yield from leaves(feature["featuresDict"]["features"], f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}"


@pytest.mark.parametrize("twin", WRITERS)
def test_unlabelled_records_of_every_layout_hold_its_unlabelled_images(twin, raw_dirs, tmp_path):
    settings = {"unlabeled": True} | ({"folder": FolderLayout()} if twin == "colors" else {})
    info = make(twin, raw_dirs / twin, tmp_path / "records", **settings)
    assert {name for name, split in info.splits.items() if split.num_examples} == {"test"}
    assert not info.labeled
    assert list(verify(str(tmp_path / "records"), info, lambda done: None)) == []


def test_unlabelled_records_follow_a_sample_submission(raw_dirs, tmp_path):
    sample = raw_dirs / "airbus" / "sample_submission_v2.csv"
    names = list(dict.fromkeys(pd.read_csv(sample)["ImageId"]))[::-1]
    path = tmp_path / "sample.csv"
    path.write_text("ImageId,EncodedPixels\n" + "".join(f"{name},1 2\n" for name in names))
    info = make("airbus", raw_dirs / "airbus", tmp_path / "records", unlabeled=True, sample=str(path))
    shards = [str(tmp_path / "records" / shard.name) for shard in info.shards("test")]
    found = [decode(serialized).filename.rpartition("/")[2] for shard in shards for serialized in read_shard(shard)]
    assert found == names


def test_a_tile_shows_its_window_of_every_layout_and_empty_tiles_are_capped(raw_dirs, tmp_path):
    info = make("airbus", raw_dirs / "airbus", tmp_path / "records", size=256, tile=True, max_empty=0.5)
    plan = pd.read_parquet(tmp_path / "records" / "plan.parquet")
    tiles = plan[plan["status"] == "in"]
    assert (tiles["foreground"] == 0).mean() <= 0.5
    assert set(tiles["crop_height"]) == {256}
    assert (info.height, info.width) == (256, 256)
    assert info.splits["train"].class_pixels[1] > 0
    by_key = tiles.set_index("key")["foreground"]
    for shard in info.shards("train"):
        for record in map(decode, read_shard(str(tmp_path / "records" / shard.name))):
            assert int((decode_mask(record.mask) == 1).sum()) == by_key[record.source_id]


def test_a_bad_volume_counts_as_one_item_however_many_slices_the_others_have(raw_dirs, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(raw_dirs / "ct", raw)
    scan = next((raw / "ct_scans").iterdir())
    scan.write_bytes(scan.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"1 of 3 items are bad, more than --max_rejects 0\.3 allows"):
        make("ct", raw, tmp_path / "records", max_rejects=0.3)
    assert make("ct", raw, tmp_path / "records", max_rejects=0.4).rejected == 1


def test_settings_of_another_layout_are_refused(raw_dirs, tmp_path):
    with pytest.raises(ValueError, match="ct: found settings of the layout ct, but the layout is coco"):
        make("coco", raw_dirs / "coco", tmp_path / "records", **CT)


def test_the_volumes_of_an_earlier_plan_do_not_stay(raw_dirs, tmp_path):
    make("ct", raw_dirs / "ct", tmp_path / "records", plan_only=True)
    assert (tmp_path / "records" / "volumes.parquet").exists()
    make("folder", raw_dirs / "folder", tmp_path / "records")
    assert not (tmp_path / "records" / "volumes.parquet").exists()


def test_settings_that_no_mask_fits_are_told_before_anything_is_written(raw_dirs, tmp_path):
    with pytest.raises(ValueError, match=r"none of 8 masks that were tried could be read, nothing was written: masks/"):
        make("colors", raw_dirs / "colors", tmp_path / "records", folder=FolderLayout(), plan_only=True)
    assert not list(tmp_path.glob("records/*.tfrecord*"))


def test_a_pattern_that_no_key_matches_is_refused(raw_dirs, tmp_path):
    with pytest.raises(
        ValueError, match=r"group_by: expected '\^x' to match keys, found no match in 10 of them, such as"
    ):
        make("folder", raw_dirs / "folder", tmp_path / "records", group_by="^x")
