"""Raw data and settings that gave wrong records without a word, or took good records with them."""

import gzip
import json
import struct
import tracemalloc
import zipfile

import cv2
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from imaging.codec import decode_image, encode_png
from imaging.tiling import tile_windows
from imaging.volume import read_scan
from preprocess.config import CtLayout, PreprocessConfig, Splits
from preprocess.job import preprocess
from preprocess.raw import RawFiles
from preprocess.sources.volume_pairs import find_pairs
from tests.conftest import make_records, silent_progress


def write_png(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(pixels))


def noise(height=16, width=16):
    return np.random.default_rng(height).integers(0, 255, (height, width, 3), np.uint8)


def lines_of(layout, raw, folder, **settings):
    """Preprocesses everything into train; returns what the user is told."""
    lines = []
    config = PreprocessConfig(workers=1, size=16, splits=Splits(1, 0, 0), **settings)
    preprocess(layout, str(raw), str(folder), config, silent_progress, lines.append)
    return lines


# CT: a mask belongs to its own scan alone.


def pairs(tmp_path, *names):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return {pair.scan: (pair.mask, pair.error) for pair in find_pairs(RawFiles(str(tmp_path)), None, False)}


def test_a_patient_without_a_mask_does_not_get_another_patients(tmp_path):
    found = pairs(tmp_path, "pat1/ct.nii", "pat1/ct_seg.nii", "pat2/ct.nii")
    assert found == {"pat1/ct.nii": ("pat1/ct_seg.nii", None), "pat2/ct.nii": (None, None)}


def test_a_case_without_a_mask_takes_no_other_cases_with_it(tmp_path):
    found = pairs(tmp_path, *(f"case_{k}/imaging.nii" for k in (1, 2, 3)), *(f"case_{k}/seg.nii" for k in (1, 2)))
    assert [found[f"case_{k}/imaging.nii"] for k in (1, 2, 3)] == [
        ("case_1/seg.nii", None),
        ("case_2/seg.nii", None),
        (None, None),
    ]


def test_masks_in_a_directory_of_their_own_are_found_whatever_the_order_of_numbers(tmp_path):
    names = ("patient1_visit2", "patient2_visit1")
    found = pairs(tmp_path, *(f"images/{name}.nii" for name in names), *(f"labels/{name}.nii" for name in names))
    assert found == {f"images/{name}.nii": (f"labels/{name}.nii", None) for name in names}


def write_volume(path, voxels):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.diag([-1, -1, 2, 1])), path)


def test_a_class_that_no_mask_holds_is_told(tmp_path):
    write_volume(tmp_path / "raw/scans/a.nii", np.arange(64, dtype=np.int16).reshape(4, 4, 4))
    write_volume(tmp_path / "raw/masks/a.nii", np.eye(4, dtype=np.uint8)[:, :, np.newaxis].repeat(4, 2))
    labels = {"liver": [5], "lung": [1]}
    lines = lines_of("ct", tmp_path / "raw", tmp_path / "records", ct=CtLayout(labels=labels))
    assert [line for line in lines if "no mask holds" in line] == ["warning    no mask holds a pixel of liver"]


def test_what_is_no_volume_is_not_unpacked():
    bomb = gzip.compress(bytes(1 << 24)) * 16  # a quarter of a MiB, and 256 of zeros
    tracemalloc.start()
    with pytest.raises(ValueError, match="no single-file NIfTI"):
        read_scan(bomb)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 25


# TIFF: OpenCV reads some of 16 bits as other pixels.


def tiff(values, photometric, planar=1, big=False):
    """Returns an uncompressed TIFF of uint16 values [height, width, samples]; if big, a BigTIFF with two such pages."""
    height, width, samples = values.shape
    strips = np.moveaxis(values, 2, 0) if planar == 2 else values[np.newaxis]
    begin, size = (16 if big else 8), strips[0].nbytes
    number, offset = ("Q", 8) if big else ("I", 4)
    behind = begin + values.nbytes
    # Tags that do not fit into an entry lie behind the pixels.
    long_type, extra = (16, b"") if big else (4, b"")
    tags = {256: (3, [width]), 257: (3, [height]), 258: (3, [16] * samples), 259: (3, [1]), 262: (3, [photometric])}
    tags |= {273: (long_type, [begin + size * k for k in range(len(strips))]), 277: (3, [samples])}
    tags |= {278: (3, [height]), 279: (long_type, [size] * len(strips)), 284: (3, [planar])}
    entries = []
    for tag, (kind, numbers) in sorted(tags.items()):
        packed = struct.pack(f"<{len(numbers)}{'H' if kind == 3 else number}", *numbers)
        if len(packed) > offset:
            packed, extra = struct.pack(f"<{number}", behind + len(extra)), extra + packed
        entries.append(struct.pack(f"<HH{number}", tag, kind, len(numbers)) + packed.ljust(offset, b"\0"))
    directory = struct.pack("<Q" if big else "<H", len(entries)) + b"".join(entries)
    first = behind + len(extra)
    last = struct.pack(f"<{number}", 0)
    pages = directory + (struct.pack("<Q", first + len(directory) + 8) + directory + last if big else last)
    head = b"II+\0" + struct.pack("<HHQ", 8, 0, first) if big else b"II*\0" + struct.pack("<I", first)
    return head + strips.tobytes() + extra + pages


def test_a_16_bit_tiff_with_its_channels_side_by_side_has_its_values():
    values = np.arange(4 * 6 * 3, dtype=np.uint16).reshape(4, 6, 3) * 800
    np.testing.assert_array_equal(decode_image(tiff(values, photometric=2)), values)


def test_a_16_bit_tiff_in_planes_has_its_values():
    values = np.arange(4 * 6 * 3, dtype=np.uint16).reshape(4, 6, 3) * 800
    np.testing.assert_array_equal(decode_image(tiff(values, photometric=2, planar=2)), values)


def test_a_16_bit_tiff_in_which_0_is_white_is_not_read_as_a_negative():
    values = np.arange(24, dtype=np.uint16).reshape(4, 6, 1) * 2000
    with pytest.raises(ValueError, match="in which 0 is black"):
        decode_image(tiff(values, photometric=0))


def test_a_big_tiff_of_two_pages_is_refused_like_any_other():
    values = np.arange(24, dtype=np.uint16).reshape(4, 6, 1)
    with pytest.raises(ValueError, match="TIFF of 2 pages"):
        decode_image(tiff(values, photometric=1, big=True))


# Masks that are not what they seem.


@pytest.mark.parametrize("kind", ["JPEG", "blurred", "two objects"])
def test_a_nucleus_mask_of_several_values_is_a_bad_item(tmp_path, kind):
    write_png(tmp_path / "raw/a/images/a.png", noise(64, 64))
    mask = cv2.circle(np.zeros((64, 64), np.uint8), (20, 20), 9, 255, -1)
    if kind == "blurred":
        mask = cv2.GaussianBlur(mask, (9, 9), 0)
    elif kind == "two objects":
        mask[40:50, 40:50] = 2
    path = tmp_path / ("raw/a/masks/0.jpg" if kind == "JPEG" else "raw/a/masks/0.png")
    path.parent.mkdir()
    assert cv2.imwrite(str(path), mask)
    with pytest.raises(ValueError, match="expected one object of one value"):
        make_records("nuclei", tmp_path / "raw", tmp_path / "records", size=64)


def write_coco(folder, file_names, **annotation):
    square = {"category_id": 1, "segmentation": [[2, 2, 8, 2, 8, 8, 2, 8]]} | annotation
    content = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(file_names)],
        "annotations": [{"id": number, "image_id": number} | square for number in range(len(file_names))],
        "categories": [{"id": 1, "name": "cat"}],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.json").write_text(json.dumps(content))


def test_an_image_of_another_split_is_not_taken_for_one_that_is_missing(tmp_path):
    write_coco(tmp_path / "raw", ["train/1.png", "train/2.png"])
    write_png(tmp_path / "raw/train/1.png", noise())
    write_png(tmp_path / "raw/val/2.png", noise(17, 17))
    info = make_records("coco", tmp_path / "raw", tmp_path / "records", size=16, max_rejects=0.5)
    assert info.rejected == 1
    assert "train/2" in (tmp_path / "records/rejected.csv").read_text()


def test_directories_of_another_computer_are_left_out_of_account(tmp_path):
    write_coco(tmp_path / "raw", ["/home/me/data/1.png", "D:\\data\\2.png"])
    for name in ("1", "2"):
        write_png(tmp_path / f"raw/images/{name}.png", noise(15 + int(name)))
    assert make_records("coco", tmp_path / "raw", tmp_path / "records", size=16).rejected == 0


def test_iscrowd_as_text_does_not_make_every_object_a_crowd(tmp_path):
    write_coco(tmp_path / "raw", ["1.png"], iscrowd="0")
    write_png(tmp_path / "raw/1.png", noise())
    with pytest.raises(ValueError, match="expected iscrowd 0 or 1, found '0'"):
        make_records("coco", tmp_path / "raw", tmp_path / "records", size=16)


# Settings, and zips in zips.


def test_a_coding_that_is_refused_leaves_the_old_records_whole(tmp_path):
    for name in "abc":
        write_png(tmp_path / f"raw/images/{name}.png", noise(16 + ord(name)).astype(np.uint16) * 257)
        write_png(tmp_path / f"raw/masks/{name}.png", np.eye(16 + ord(name), 16, dtype=np.uint8))
    make_records("folder", tmp_path / "raw", tmp_path / "records", size=16)
    before = {path.name: path.read_bytes() for path in (tmp_path / "records").iterdir()}
    for settings in ({"overwrite": True}, {"plan_only": True}):
        folder = tmp_path / ("records" if "overwrite" in settings else "plan")
        with pytest.raises(ValueError, match="JPEG holds 8 bits"):
            make_records("folder", tmp_path / "raw", folder, size=16, coding="jpeg", **settings)
    assert {path.name: path.read_bytes() for path in (tmp_path / "records").iterdir()} == before


def test_tiles_and_sizes_beyond_any_memory_are_refused_at_once():
    with pytest.raises(ValueError, match="at most 1000000 tiles of an image, found 15752961"):
        tile_windows(4000, 4000, 32, 31)
    with pytest.raises(ValueError, match="size: expected at most 16384 pixels, found 100000"):
        PreprocessConfig(size=100000)


@pytest.mark.parametrize("layout", ["nuclei", "airbus", "clouds", "ct", "folder", "coco"])
def test_zips_in_a_zip_are_to_be_unpacked(tmp_path, layout):
    with zipfile.ZipFile(tmp_path / "raw.zip", "w") as archive:
        archive.writestr("train_v2.zip", b"")
        archive.writestr("train_ship_segmentations_v2.csv", "ImageId,EncodedPixels\na.jpg,1 3\n")
    with pytest.raises(ValueError, match=r"zips lie in it \(train_v2.zip\): unpack"):
        make_records(layout, tmp_path / "raw.zip", tmp_path / "records")


def test_a_table_with_a_comma_too_many_does_not_shift_masks_into_the_scans_column(tmp_path):
    for name in ("scans/a", "lung/a_lung", "infection/a_infection"):
        write_volume(tmp_path / f"raw/{name}.nii", np.zeros((4, 4, 4), np.uint8))
    rows = "ct_scan,lung_mask,infection_mask\nscans/a.nii,lung/a_lung.nii,infection/a_infection.nii,\n"
    (tmp_path / "raw/metadata.csv").write_text(rows)
    with pytest.raises(ValueError, match="expected 3 cells in every row"):
        make_records("ct", tmp_path / "raw", tmp_path / "records", ct=CtLayout(mask="lung_mask"))


def test_rejected_and_planned_items_are_all_that_there_are(tmp_path):
    names = ["ok", "empty image", "no mask", "other size"]
    for name in names:
        write_png(tmp_path / f"raw/images/{name}.png", noise(16 + len(name)))
        write_png(tmp_path / f"raw/masks/{name}.png", np.eye(16 + len(name), 16, dtype=np.uint8))
    (tmp_path / "raw/images/empty image.png").write_bytes(b"")
    (tmp_path / "raw/masks/no mask.png").unlink()
    write_png(tmp_path / "raw/masks/other size.png", np.eye(9, dtype=np.uint8))
    info = make_records("folder", tmp_path / "raw", tmp_path / "records", size=16, max_rejects=0.9)
    rejected = pd.read_csv(tmp_path / "records/rejected.csv")
    assert sorted(rejected["key"]) == ["empty image", "no mask", "other size"]
    assert info.rejected == 3 and sum(split.num_examples for split in info.splits.values()) == 1
