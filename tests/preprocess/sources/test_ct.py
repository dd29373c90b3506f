import os
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

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
from preprocess.sources.volume_pairs import find_pairs, stem
from records.info import read_info
from records.schema import decode, decode_pixels
from records.shards import read_shard
from tests.conftest import make_records

AFFINE = np.array([[-2.0, 0, 0, 40], [0, 3.0, 0, -30], [0, 0, 5.0, 10], [0, 0, 0, 1]])  # LAS
SHAPE = (8, 10, 4)


def write_volume(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)


def hounsfield(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3604, 3000, SHAPE).astype(np.int16)


def lungs(seed: int) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:5, 3:7, 1:3] = 1
    mask[6, seed % 10, 3] = 1
    return mask


def write_kaggle(folder: Path, scans: int = 3) -> None:
    """COVID-19 CT scans: other names for scans than for masks, and a foreign prefix in the table."""
    rows = []
    for number in range(1, scans + 1):
        scan, mask = f"coronacases_org_{number:03d}.nii", f"coronacases_{number:03d}.nii"
        write_volume(folder / "ct_scans" / scan, hounsfield(number))
        write_volume(folder / "lung_mask" / mask, lungs(number))
        write_volume(folder / "infection_mask" / mask, lungs(number + 5))
        prefix = "../input/covid19-ct-scans"
        rows.append([f"{prefix}/ct_scans/{scan}", f"{prefix}/lung_mask/{mask}", f"{prefix}/infection_mask/{mask}"])
    table = pd.DataFrame(rows, columns=["ct_scan", "lung_mask", "infection_mask"])
    table.to_csv(folder / "metadata.csv", index=False)


def config(**settings) -> PreprocessConfig:
    return PreprocessConfig(ct=CtLayout(**settings))


def pairs(folder: Path, settings: PreprocessConfig) -> list[tuple[str, str | None, str | None]]:
    return sorted((item.key, item.image, item.mask) for item in find_items("ct", RawFiles(str(folder)), settings))


def test_the_table_pairs_scans_and_masks_whatever_prefix_its_paths_have(tmp_path):
    write_kaggle(tmp_path, 1)
    assert pairs(tmp_path, config(mask="infection_mask")) == [
        ("coronacases_org_001", "ct_scans/coronacases_org_001.nii", "infection_mask/coronacases_001.nii")
    ]


def test_the_table_finds_compressed_files_that_it_names_uncompressed(tmp_path):
    write_kaggle(tmp_path, 1)
    for name in ("ct_scans/coronacases_org_001.nii", "lung_mask/coronacases_001.nii"):
        nib.save(nib.load(tmp_path / name), tmp_path / f"{name}.gz")
        (tmp_path / name).unlink()
    [(_, scan, mask)] = pairs(tmp_path, config(mask="lung_mask"))
    assert (scan, mask) == ("ct_scans/coronacases_org_001.nii.gz", "lung_mask/coronacases_001.nii.gz")


def test_several_columns_of_masks_ask_for_a_choice(tmp_path):
    write_kaggle(tmp_path, 1)
    with pytest.raises(ValueError, match=r"ct\.mask: expected a choice; metadata\.csv has .*lung_mask, infection_mask"):
        pairs(tmp_path, config())
    with pytest.raises(ValueError, match=r"ct\.mask: expected one of lung_mask, infection_mask .*found 'liver'"):
        pairs(tmp_path, config(mask="liver"))


@pytest.mark.parametrize(
    ("scan", "mask"),
    [
        ("ct_scans/coronacases_org_001.nii", "lung_mask/coronacases_001.nii"),
        ("imagesTr/lung_001.nii.gz", "labelsTr/lung_001.nii.gz"),
        ("imagesTr/lung_001_0000.nii.gz", "labelsTr/lung_001.nii.gz"),
        ("example_ct_sm.nii.gz", "example_seg.nii.gz"),
        ("case_00000/imaging.nii.gz", "case_00000/segmentation.nii.gz"),
        ("scans/p1.nii", "masks/p1_mask.nii"),
    ],
)
def test_without_a_table_directories_and_names_pair_them(tmp_path, scan, mask):
    write_volume(tmp_path / scan, hounsfield(0))
    write_volume(tmp_path / mask, lungs(0))
    [(_, found_scan, found_mask)] = pairs(tmp_path, config())
    assert (found_scan, found_mask) == (scan, mask)


def test_a_mask_goes_to_the_scan_it_shares_most_words_with(tmp_path):
    for name in ("p1", "p1_10"):
        write_volume(tmp_path / "scans" / f"{name}.nii", hounsfield(0))
        write_volume(tmp_path / "masks" / f"{name}.nii", lungs(0))
    assert [(scan, mask) for _, scan, mask in pairs(tmp_path, config())] == [
        ("scans/p1.nii", "masks/p1.nii"),
        ("scans/p1_10.nii", "masks/p1_10.nii"),
    ]


def test_a_mask_belongs_to_one_scan_and_words_count_in_their_order(tmp_path):
    for scan in ("patient_01_scan_02", "patient_02_scan_01", "P1", "P1_10"):
        write_volume(tmp_path / "scans" / f"{scan}.nii", hounsfield(0))
    for mask in ("patient_01_scan_02", "P1"):
        write_volume(tmp_path / "masks" / f"{mask}.nii", lungs(0))
    assert [(scan, mask) for _, scan, mask in pairs(tmp_path, config())] == [
        ("scans/P1.nii", "masks/P1.nii"),
        ("scans/P1_10.nii", None),
        ("scans/patient_01_scan_02.nii", "masks/patient_01_scan_02.nii"),
        ("scans/patient_02_scan_01.nii", None),
    ]


def test_one_directory_for_each_patient_pairs_what_lies_in_it(tmp_path):
    for patient in ("P1", "P2"):
        write_volume(tmp_path / patient / "ct.nii", hounsfield(0))
        write_volume(tmp_path / patient / "mask.nii", lungs(0))
    assert pairs(tmp_path, config()) == [
        ("P1/ct", "P1/ct.nii", "P1/mask.nii"),
        ("P2/ct", "P2/ct.nii", "P2/mask.nii"),
    ]


def test_thousands_of_scans_are_paired_in_moments():
    volumes = [f"{kind}/case_{number:05d}.nii" for kind in ("scans", "masks") for number in range(5000)]
    files = SimpleNamespace(walk=lambda: iter(volumes), root="raw")
    start = time.process_time()
    found = find_pairs(files, None, False)
    assert time.process_time() - start < 10  # comparing all with all would take minutes
    assert all(stem(pair.scan) == stem(pair.mask) for pair in found)
    assert len(found) == 5000


def test_the_mask_file_is_hashed_once_for_all_slices(tmp_path, monkeypatch):
    write_kaggle(tmp_path, 1)
    settings, files = config(mask="lung_mask"), RawFiles(str(tmp_path))
    [item] = find_items("ct", files, settings)
    calls = []
    monkeypatch.setattr(files, "content_hash", lambda path: calls.append(path) or "hash")
    assert len(index_rows("ct", files, item, settings)) == 4
    assert calls == ["lung_mask/coronacases_001.nii"]


def test_several_kinds_of_masks_do_not_matter_to_unlabelled_scans(tmp_path):
    write_volume(tmp_path / "scans" / "p1.nii", hounsfield(0))
    for kind in ("lung_mask", "infection_mask"):
        write_volume(tmp_path / kind / "p1.nii", lungs(0))
    files, settings = RawFiles(str(tmp_path)), PreprocessConfig(unlabeled=True)
    assert [(item.image, item.mask, item.error) for item in find_items("ct", files, settings)] == [
        ("scans/p1.nii", None, None)
    ]


def test_bit_fields_are_refused(tmp_path):
    write_kaggle(tmp_path, 1)
    with pytest.raises(ValueError, match="overlap: found bits"):
        ct.class_names(RawFiles(str(tmp_path)), PreprocessConfig(overlap="bits", ct=CtLayout(mask="lung_mask")))


def test_transformed_intensities_are_hounsfield_units_no_more(tmp_path):
    write_kaggle(tmp_path / "raw", 3)
    info = make_records("ct", tmp_path / "raw", tmp_path / "r", intensity="stretch", ct=CtLayout(mask="lung_mask"))
    assert info.intensity == {"offset": 0, "slope": 1, "unit": "stored value", "transform": "stretch"}


def test_scans_without_a_mask_are_the_unlabelled_ones(tmp_path):
    write_volume(tmp_path / "scans" / "p1.nii", hounsfield(0))
    write_volume(tmp_path / "masks" / "p1.nii", lungs(0))
    write_volume(tmp_path / "scans" / "p2.nii", hounsfield(1))
    assert pairs(tmp_path, PreprocessConfig(unlabeled=True)) == [("p2", "scans/p2.nii", None)]


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


def test_a_zip_gives_the_same_items(tmp_path):
    raw = tmp_path / "raw"
    write_kaggle(raw, 2)
    with zipfile.ZipFile(tmp_path / "raw.zip", "w") as archive:
        for path in sorted(raw.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(raw))
    settings = config(mask="lung_mask")
    assert pairs(raw, settings) == pairs(tmp_path / "raw.zip", settings)
