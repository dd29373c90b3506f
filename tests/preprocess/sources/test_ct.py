import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from imaging.codec import decode_mask
from imaging.volume import Geometry, volume_from_slices
from preprocess.config import CtLayout, PreprocessConfig, Splits
from preprocess.index import find_items, index_rows
from preprocess.raw import RawFiles
from preprocess.sources import ct
from records.info import read_info
from records.schema import decode, decode_pixels
from records.shards import read_shard
from tests.conftest import make_records
from tests.preprocess.sources.scans import AFFINE, config, hounsfield, lungs, write_kaggle, write_volume


def test_the_mask_file_is_hashed_once_for_all_slices(tmp_path, monkeypatch):
    write_kaggle(tmp_path, 1)
    settings, files = config(mask="lung_mask"), RawFiles(str(tmp_path))
    [item] = find_items("ct", files, settings)
    calls = []
    monkeypatch.setattr(files, "content_hash", lambda path: calls.append(path) or "hash")
    assert len(index_rows("ct", files, item, settings)) == 4
    assert calls == ["lung_mask/coronacases_001.nii"]


def test_bit_fields_are_refused(tmp_path):
    write_kaggle(tmp_path, 1)
    with pytest.raises(ValueError, match="overlap: found bits"):
        ct.class_names(RawFiles(str(tmp_path)), PreprocessConfig(overlap="bits", ct=CtLayout(mask="lung_mask")))


def test_transformed_intensities_are_hounsfield_units_no_more(tmp_path):
    write_kaggle(tmp_path / "raw", 3)
    info = make_records("ct", tmp_path / "raw", tmp_path / "r", intensity="stretch", ct=CtLayout(mask="lung_mask"))
    assert info.intensity == {"offset": 0, "slope": 1, "unit": "stored value", "transform": "stretch"}


def test_a_scan_becomes_a_row_for_each_slice_with_its_facts(tmp_path):
    write_kaggle(tmp_path, 1)
    settings = config(mask="lung_mask")
    files = RawFiles(str(tmp_path))
    [item] = find_items("ct", files, settings)
    rows = index_rows("ct", files, item, settings)
    assert [row["key"] for row in rows] == [f"coronacases_org_001/{index:04d}" for index in range(4)]
    assert [row["foreground"] for row in rows] == [0, 12, 12, 1]
    assert {(row["height"], row["width"], row["depth"], row["group"]) for row in rows} == {
        (10, 8, 16, "coronacases_org_001")
    }


def test_a_volume_is_decompressed_once_for_all_its_slices(tmp_path, monkeypatch):
    write_kaggle(tmp_path, 2)
    settings = config(mask="lung_mask")
    files = RawFiles(str(tmp_path))
    items = find_items("ct", files, settings)
    calls = []
    monkeypatch.setattr(ct, "read_scan", lambda data, read=ct.read_scan: (calls.append(1), read(data))[1])
    monkeypatch.setattr(ct, "read_mask", lambda data, read=ct.read_mask: (calls.append(1), read(data))[1])
    for item in items:
        for index in range(4):
            one = item._replace(slice_index=index)
            ct.read_masks(files, one, *ct.read_image(files, one).pixels.shape[:2], settings)
    assert len(calls) == 4  # two scans, two masks


def put_together(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns (scan, mask) of each group in the grid of their files, from records of native size."""
    info = read_info(str(folder))
    slices: dict[str, dict] = {}
    for split, split_info in info.splits.items():
        for shard in info.shards(split) if split_info.num_examples else []:
            for record in map(decode, read_shard(str(folder / shard.name))):
                slices.setdefault(record.group, {})[record.slice_index] = record
    volumes = {}
    for row in pd.read_parquet(folder / "volumes.parquet").itertuples():
        affine = tuple(map(tuple, np.array(row.affine).reshape(4, 4).tolist()))
        geometry = Geometry(tuple(row.shape.tolist()), affine, row.axis_codes)
        ordered = [slices[row.group][index] for index in range(row.slices)]
        stored = np.stack([decode_pixels(record, "uint16")[:, :, 0] for record in ordered])
        scan = volume_from_slices(stored.astype(np.int32) + info.intensity["offset"], geometry)
        mask = volume_from_slices(np.stack([decode_mask(record.mask) for record in ordered]), geometry)
        volumes[row.group] = (scan, mask)
    return volumes


@pytest.mark.parametrize("codes", ["LAS", "RAS", "PSR"])
def test_records_put_together_are_the_volume_again(tmp_path, codes):
    raw, folder = tmp_path / "raw", tmp_path / "records"
    turn = nib.orientations.ornt_transform(nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(codes))
    for number in range(3):
        for kind, voxels in (("scans", hounsfield(number)), ("masks", lungs(number))):
            path = raw / kind / f"p{number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(voxels, AFFINE).as_reoriented(turn), path)
    make_records("ct", raw, folder, size=None, splits=Splits(0.34, 0.33, 0.33))
    volumes = put_together(folder)
    assert len(volumes) == 3
    for group, (scan, mask) in volumes.items():
        np.testing.assert_array_equal(scan, voxels_of(raw / "scans" / f"{group}.nii.gz"))
        np.testing.assert_array_equal(mask, voxels_of(raw / "masks" / f"{group}.nii.gz"))
    table = pd.read_parquet(folder / "volumes.parquet")
    assert set(table["axis_codes"]) == {codes}


@pytest.mark.skipif("SEGMENTATION_DATA" not in os.environ, reason="SEGMENTATION_DATA names no folder of real data")
def test_records_of_real_scans_put_together_are_the_scans_again(tmp_path):
    raw = Path(os.environ["SEGMENTATION_DATA"], "ct")
    make_records("ct", raw, tmp_path / "records", size=None)
    volumes = put_together(tmp_path / "records")
    assert len(volumes) == 4
    for group, (scan, mask) in volumes.items():
        np.testing.assert_array_equal(scan, voxels_of(raw / "ct_scans" / f"{group}.nii"))
        np.testing.assert_array_equal(mask, voxels_of(raw / "lung_mask" / f"{group}.nii"))


def test_records_know_slice_and_spacing(tmp_path):
    raw, folder = tmp_path / "raw", tmp_path / "records"
    write_kaggle(raw, 1)
    info = make_records("ct", raw, folder, size=None, ct=CtLayout(mask="lung_mask"), splits=Splits(1, 0, 0))
    records = [decode(data) for shard in info.shards("train") for data in read_shard(str(folder / shard.name))]
    assert [record.slice_index for record in records] == [0, 1, 2, 3]
    assert {record.spacing_mm for record in records} == {(3.0, 2.0, 5.0)}


def voxels_of(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def first_error(folder: Path, settings: PreprocessConfig | None = None) -> str:
    settings = settings or config()
    files = RawFiles(str(folder))
    [item] = find_items("ct", files, settings)
    [row] = index_rows("ct", files, item, settings)
    return row["error"]


def test_a_mask_of_another_affine_rejects_the_scan(tmp_path):
    write_volume(tmp_path / "scans" / "p1.nii", hounsfield(0))
    write_volume(tmp_path / "masks" / "p1.nii", lungs(0), AFFINE @ np.diag([1, 1, 1.2, 1]))
    error = first_error(tmp_path)
    assert error.startswith("scans/p1.nii and masks/p1.nii: ")
    assert "found them up to 3 mm apart" in error


def test_fractions_and_values_beyond_16_bits_reject_the_scan_with_their_range(tmp_path):
    write_volume(tmp_path / "masks" / "p1.nii", lungs(0))
    write_volume(tmp_path / "scans" / "p1.nii", (hounsfield(0) / 1000).astype(np.float32))
    assert "scans/p1.nii: expected Hounsfield units as integers, found fractions in the range -3." in first_error(
        tmp_path
    )
    write_volume(tmp_path / "scans" / "p1.nii", hounsfield(0).astype(np.float32) * 20)
    assert "-32768 to 32767, found the range -7" in first_error(tmp_path)


def test_a_bad_header_rejects_the_scan(tmp_path):
    write_volume(tmp_path / "masks" / "p1.nii", lungs(0))
    write_volume(tmp_path / "scans" / "p1.nii", hounsfield(0))
    data = bytearray((tmp_path / "scans" / "p1.nii").read_bytes())
    data[:4] = b"\xff\xff\xff\xff"
    (tmp_path / "scans" / "p1.nii").write_bytes(bytes(data))
    assert first_error(tmp_path).startswith("scans/p1.nii: the NIfTI cannot be read")


def test_one_bad_volume_leaves_the_others(tmp_path):
    raw, folder = tmp_path / "raw", tmp_path / "records"
    write_kaggle(raw, 4)
    path = raw / "ct_scans" / "coronacases_org_002.nii"
    path.write_bytes(path.read_bytes()[:500])
    info = make_records("ct", raw, folder, size=None, max_rejects=0.5, ct=CtLayout(mask="lung_mask"))
    assert (sum(split.num_examples for split in info.splits.values()), info.rejected) == (12, 1)
    assert "coronacases_org_002" in (folder / "rejected.csv").read_text()


def test_interpolated_masks_are_rounded_and_counted(tmp_path):
    raw, folder = tmp_path / "raw", tmp_path / "records"
    for number in range(3):
        write_volume(raw / "scans" / f"p{number}.nii", hounsfield(number))
        soft = lungs(number) + np.where(lungs(number) > 0, 0.04, -0.03)
        write_volume(raw / "masks" / f"p{number}.nii", soft.astype(np.float32))
    info = make_records("ct", raw, folder, size=None)
    assert info.warnings == {"interpolated masks rounded": 12}
    assert sum(split.class_pixels[1] for split in info.splits.values()) == 3 * 25


def test_slices_without_foreground_are_dropped_or_kept_at_a_share(tmp_path):
    raw = tmp_path / "raw"
    write_kaggle(raw, 3)
    layout = CtLayout(mask="lung_mask")
    info = make_records("ct", raw, tmp_path / "dropped", size=None, ct=layout, drop_empty=True)
    assert sum(split.num_examples for split in info.splits.values()) == 9
    info = make_records("ct", raw, tmp_path / "share", size=None, ct=layout, max_empty=0.1)
    assert sum(split.num_examples for split in info.splits.values()) == 10  # 1 of 10 is empty


def test_the_slices_of_a_patient_stay_in_one_split(tmp_path):
    raw, folder = tmp_path / "raw", tmp_path / "records"
    write_kaggle(raw, 6)
    make_records("ct", raw, folder, size=None, ct=CtLayout(mask="lung_mask"), splits=Splits(0.5, 0.25, 0.25))
    plan = pd.read_parquet(folder / "plan.parquet")
    assert plan.groupby("group")["split"].nunique().eq(1).all()
    assert plan["split"].nunique() > 1


def test_labels_choose_mask_values_and_name_them(tmp_path):
    write_volume(tmp_path / "example_ct.nii", hounsfield(0))
    organs = lungs(0)
    organs[organs > 0] = 117
    organs[0, 0, 0], organs[1, 1, 0] = 5, 42
    write_volume(tmp_path / "example_seg.nii", organs)
    assert "expected mask values 0 to 1 (background, object), found [5, 42, 117]" in first_error(tmp_path)
    settings = config(labels={"liver": [5], "lung": [117, 42]})
    files = RawFiles(str(tmp_path))
    [item] = find_items("ct", files, settings)
    assert ct.class_names(files, settings) == ["background", "liver", "lung"]
    masks = [ct.read_masks(files, item._replace(slice_index=index), 10, 8, settings).classes for index in range(4)]
    assert np.bincount(masks[0].ravel(), minlength=3).tolist() == [78, 1, 1]
    assert sum(int((mask == 2).sum()) for mask in masks) == 26
