import time
import zipfile
from types import SimpleNamespace

import nibabel as nib
import pytest

from preprocess.config import PreprocessConfig
from preprocess.index import find_items
from preprocess.raw import RawFiles
from preprocess.sources.volume_pairs import find_pairs, stem
from tests.preprocess.sources.scans import config, hounsfield, lungs, pairs, write_kaggle, write_volume


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


def test_several_kinds_of_masks_do_not_matter_to_unlabelled_scans(tmp_path):
    write_volume(tmp_path / "scans" / "p1.nii", hounsfield(0))
    for kind in ("lung_mask", "infection_mask"):
        write_volume(tmp_path / kind / "p1.nii", lungs(0))
    files, settings = RawFiles(str(tmp_path)), PreprocessConfig(unlabeled=True)
    assert [(item.image, item.mask, item.error) for item in find_items("ct", files, settings)] == [
        ("scans/p1.nii", None, None)
    ]


def test_scans_without_a_mask_are_the_unlabelled_ones(tmp_path):
    write_volume(tmp_path / "scans" / "p1.nii", hounsfield(0))
    write_volume(tmp_path / "masks" / "p1.nii", lungs(0))
    write_volume(tmp_path / "scans" / "p2.nii", hounsfield(1))
    assert pairs(tmp_path, PreprocessConfig(unlabeled=True)) == [("p2", "scans/p2.nii", None)]


def test_a_zip_gives_the_same_items(tmp_path):
    raw = tmp_path / "raw"
    write_kaggle(raw, 2)
    with zipfile.ZipFile(tmp_path / "raw.zip", "w") as archive:
        for path in sorted(raw.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(raw))
    settings = config(mask="lung_mask")
    assert pairs(raw, settings) == pairs(tmp_path / "raw.zip", settings)
