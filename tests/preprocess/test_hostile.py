"""Raw data and situations that once broke preprocess, or passed without a word."""

import os
import re
import shutil
import zipfile

import cv2
import numpy as np
import pandas as pd
import pytest

from imaging.codec import decode_mask, encode_png, examine_image
from preprocess.index import _group
from preprocess.raw import RawFiles
from preprocess.synthetic import SyntheticConfig, write_folder
from tests.conftest import make_records


@pytest.fixture
def raw(tmp_path):
    write_folder(tmp_path / "raw", SyntheticConfig(images=6))
    return tmp_path / "raw"


def invert(path):
    path.write_bytes(encode_png(255 - decode_mask(path.read_bytes())))


@pytest.mark.parametrize("stage", ["finished", "killed before the commit"])
def test_masks_that_changed_since_are_other_records(raw, tmp_path, stage):
    make_records("folder", raw, tmp_path / "records", size=32)
    reports = {path.name for path in (tmp_path / "records").glob("*.tfrecord-*")}
    if stage != "finished":
        (tmp_path / "records/info.json").unlink()
    invert(next((raw / "masks").iterdir()))
    if stage == "finished":
        with pytest.raises(ValueError, match="raw data that changed since"):
            make_records("folder", raw, tmp_path / "records", size=32)
    info = make_records("folder", raw, tmp_path / "records", size=32, overwrite=True)
    whole = make_records("folder", raw, tmp_path / "whole", size=32)
    assert info == whole
    assert reports == {path.name for path in (tmp_path / "records").glob("*.tfrecord-*")}


def test_records_are_not_written_where_beam_sees_a_pattern(raw, tmp_path):
    (tmp_path / "records1").mkdir()
    (tmp_path / "records1/index-000000000.json").write_text("another's")
    for name in ("records*", "records[1]", "records?"):
        with pytest.raises(ValueError, match=r"expected an output folder without \* \? \["):
            make_records("folder", raw, tmp_path / name)
    assert (tmp_path / "records1/index-000000000.json").read_text() == "another's"


def test_statistics_are_of_all_splits_where_every_training_item_turned_out_bad(raw, tmp_path):
    make_records("folder", raw, tmp_path / "plan", plan_only=True)
    plan = pd.read_parquet(tmp_path / "plan/plan.parquet")
    for key in plan.loc[plan["split"] == "train", "key"]:
        (raw / f"masks/{key}.png").write_bytes(b"")
    info = make_records("folder", raw, tmp_path / "records", max_rejects=1.0)
    assert info.splits["train"].num_examples == 0
    assert len(info.mean) == len(info.std) == 3


@pytest.mark.parametrize(
    ("pattern", "group"), [("(x)?scene", "scene1"), ("x*", "scene1"), ("sce", "sce"), ("(sc).*", "sc")]
)
def test_a_group_that_matched_nothing_is_the_keys_own(pattern, group):
    assert _group("scene1", "scene1", re.compile(pattern)) == group
    assert _group("p1", "scene1", re.compile("y+")) == "p1"  # a patient stays one


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_damaged_zip_member_is_one_bad_item(raw, tmp_path, compression):
    path = tmp_path / "raw.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(raw.rglob("*.png")):
            archive.write(file, file.relative_to(raw))
        member = archive.getinfo("images/scene0000.png")
    data = bytearray(path.read_bytes())
    start = member.header_offset + 30 + len(member.filename) + 9
    data[start : start + 60] = b"\xff" * 60
    path.write_bytes(data)
    info = make_records("folder", path, tmp_path / "records", size=32, max_rejects=0.5)
    assert info.rejected == 1


def test_links_that_lead_back_hidden_files_and_pipes(raw):
    expected = list(RawFiles(str(raw)).walk())
    (raw / "images/back").symlink_to("..")
    (raw / "self").symlink_to(".")
    (raw / "images/.ipynb_checkpoints").mkdir()
    shutil.copy(raw / "images/scene0000.png", raw / "images/.ipynb_checkpoints/scene0000-checkpoint.png")
    (raw / "images/.hidden.png").write_bytes(b"")
    assert list(RawFiles(str(raw)).walk()) == expected
    os.mkfifo(raw / "images/pipe.png")
    with pytest.raises(ValueError, match="no regular file"):
        RawFiles(str(raw)).read("images/pipe.png")


def test_a_file_name_that_is_not_utf_8_is_named(raw):
    shutil.copy(raw / "images/scene0000.png", os.fsencode(raw / "images") + b"/bad\xff.png")
    with pytest.raises(ValueError, match="not UTF-8; rename it"):
        list(RawFiles(str(raw)).walk())


def write_nucleus(folder, masks):
    for name in ("images", "masks"):
        (folder / "a" / name).mkdir(parents=True)
    (folder / "a/images/a.png").write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    for number, mask in enumerate(masks):
        (folder / f"a/masks/{number}.png").write_bytes(encode_png(mask))


def test_an_object_mask_that_is_a_dangling_link_is_a_bad_item(tmp_path):
    write_nucleus(tmp_path / "raw", [np.zeros((8, 8), np.uint8)])
    (tmp_path / "raw/a/masks/1.png").symlink_to("/nowhere")
    with pytest.raises(ValueError, match="expected 2 mask files, found 1"):
        make_records("nuclei", tmp_path / "raw", tmp_path / "records", size=8)


def test_a_mask_that_stands_in_the_alpha_channel_alone_is_refused():
    pixels = np.full((8, 8, 4), 255, np.uint8)
    pixels[:4, :, 3] = 0
    done, data = cv2.imencode(".png", pixels)
    assert done
    with pytest.raises(ValueError, match="alpha channel alone"):
        decode_mask(data.tobytes())


def test_a_jpeg_that_tensorflow_would_refuse_is_damaged():
    done, data = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8))
    assert done
    broken = bytearray(data.tobytes())
    broken[-100:-2] = b"\xff\xc0" * 49  # a second frame header; OpenCV returns what it has
    with pytest.raises(ValueError, match="the JPEG is damaged"):
        examine_image(bytes(broken))
