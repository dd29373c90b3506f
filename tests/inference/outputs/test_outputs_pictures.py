"""Masks, probabilities, overlays and instance maps, read back by other software than what wrote them."""

import io

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from imaging.painting import PALETTE
from imaging.volume import axial_slice, read_scan
from inference.outputs.found import Found, place
from inference.outputs.pictures import Arrays, Instances, Masks, Overlays, Probabilities, overlay
from tests.inference.outputs.making import found_in, found_in_scan, trained_on

BLACK = (0, 0, 0)


def test_a_mask_is_an_indexed_png_of_class_numbers_in_the_classes_colours(tmp_path):
    trained = trained_on(("background", "road", "car"))
    mask = np.random.default_rng(1).integers(0, 3, (5, 7))
    Masks(tmp_path, trained).write(found_in(mask, trained=trained, name="deep/x"))
    image = Image.open(tmp_path / "masks/deep/x.png")
    assert image.mode == "P"
    np.testing.assert_array_equal(np.array(image), mask)
    palette = np.array([BLACK, *PALETTE[:2]])
    np.testing.assert_array_equal(np.array(image.convert("RGB")), palette[mask])


def test_classes_without_a_background_have_colours_from_0_on(tmp_path):
    trained = trained_on(("road", "car", "sky"))
    mask = np.random.default_rng(1).integers(0, 3, (5, 7))
    Masks(tmp_path, trained).write(found_in(mask, trained=trained))
    image = Image.open(tmp_path / "masks/x.png")
    np.testing.assert_array_equal(np.array(image.convert("RGB")), np.array(PALETTE[:3])[mask])


def test_overlapping_classes_have_a_mask_each_in_its_own_colour(tmp_path):
    trained = trained_on(("fish", "a/b"), overlapping=True)
    mask = np.random.default_rng(1).integers(0, 4, (5, 7))
    Masks(tmp_path, trained).write(found_in(mask, trained=trained))
    for bit, name in enumerate(("fish", "a_b")):
        image = Image.open(tmp_path / f"masks/x.{name}.png")
        np.testing.assert_array_equal(np.array(image), mask >> bit & 1)
        np.testing.assert_array_equal(np.array(image.convert("RGB")), np.array([BLACK, PALETTE[bit]])[mask >> bit & 1])


def test_probabilities_are_16_bit_pngs_and_arrays(tmp_path):
    trained = trained_on(("background", "road", "car"))
    probabilities = np.random.default_rng(1).random((4, 6, 3)).astype(np.float32)
    probabilities[0, 0] = 1, 0, 0.5
    found = found_in(np.zeros((4, 6)), probabilities, trained)
    Probabilities(tmp_path, trained).write(found)
    Arrays(tmp_path, trained).write(found)
    for number, name in ((1, "road"), (2, "car")):
        pixels = np.array(Image.open(tmp_path / f"probabilities/x.{name}.png"))
        np.testing.assert_array_equal(pixels, np.rint(probabilities[..., number] * 65535))
    np.testing.assert_array_equal(np.load(tmp_path / "probabilities/x.npy"), probabilities)


def test_instances_are_numbered_and_split_where_so_chosen(tmp_path):
    rows, columns = np.mgrid[:20, :40]
    mask = ((rows - 10) ** 2 + (columns - 12) ** 2 < 64) | ((rows - 10) ** 2 + (columns - 26) ** 2 < 64)
    for split, count in ((0, 1), (5, 2)):
        Instances(tmp_path, trained_on()).write(found_in(mask, split=split))
        labels = np.array(Image.open(tmp_path / "instances/x.png"))
        assert labels.max() == count
        np.testing.assert_array_equal(labels > 0, mask)


def test_an_overlay_shows_the_image_where_nothing_is_and_the_outline_where_something_is(tmp_path):
    mask = np.zeros((12, 12))
    mask[3:9, 3:9] = 1
    found = found_in(mask)
    Overlays(tmp_path, found.trained).write(found)
    shown = np.array(Image.open(tmp_path / "overlays/x.png"))
    np.testing.assert_array_equal(shown, overlay(found, None))
    low, high = np.percentile(found.frame.image, [0.5, 99.5])
    plain = ((found.frame.image.astype(float) - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
    np.testing.assert_array_equal(shown[mask == 0], plain[mask == 0])
    np.testing.assert_array_equal(shown[3, 3:9], [PALETTE[0]] * 6)


def test_a_window_of_16_bits_shows_a_picture_of_8(tmp_path):
    found = found_in(np.zeros((4, 4)))
    wide = Found(found.frame, found.prediction, trained_on(dtype="uint16"))
    difference = overlay(wide, (0, 65535)).astype(int) - found.frame.image
    assert abs(difference).max() <= 1


SPACING = np.diag([0.7, 0.8, 2.5, 1.0])
AXES = {
    "RAS": np.diag([1.0, 1, 1, 1]),
    "LPS": np.diag([-1.0, -1, 1, 1]),
    "PSR": np.array([[0, 0, 1.0, 3], [-1, 0, 0, 50], [0, 1, 0, -7], [0, 0, 0, 1]]),
    "ASL": np.array([[0, 0, -1.0, 3], [1, 0, 0, 50], [0, 1, 0, -7], [0, 0, 0, 1]]),
}
TURN = np.deg2rad(20)
AXES["oblique"] = AXES["LPS"] @ np.array(
    [[np.cos(TURN), -np.sin(TURN), 0, 5], [np.sin(TURN), np.cos(TURN), 0, -3], [0, 0, 1, 8], [0, 0, 0, 1]]
)


@pytest.mark.parametrize("axes", AXES)
def test_masks_of_a_scan_lie_voxel_for_voxel_on_it(tmp_path, axes):
    """What is found at a value must lie where the value is, in the file's own order of axes."""
    stored = np.random.default_rng(2).integers(-900, 900, (4, 5, 6)).astype(np.int16)
    affine = AXES[axes] @ SPACING
    volume, geometry = read_scan(nib.Nifti1Image(stored, affine).to_bytes())
    masks = np.stack([axial_slice(volume, index) > 100 for index in range(volume.shape[2])])
    trained = trained_on(dtype="uint16", channels=1)
    writers = Masks(tmp_path, trained), Probabilities(tmp_path, trained)
    for found in reversed(found_in_scan(masks, geometry, trained)):  # threads end in any order
        for writer in writers:
            writer.write(found)
    mask = nib.load(tmp_path / "masks/scan.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(mask.dataobj), stored > 100)
    np.testing.assert_allclose(mask.affine, affine, atol=1e-5)
    assert mask.header.get_xyzt_units()[0] == "mm" and mask.get_data_dtype() == np.uint8
    assert nib.aff2axcodes(mask.affine) == tuple(geometry.axis_codes)
    probability = nib.load(tmp_path / "probabilities/scan.cell.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(probability.dataobj), np.where(stored > 100, np.float32(0.75), 0.25))
    np.testing.assert_allclose(probability.affine, affine, atol=1e-5)


def test_the_overlay_of_a_scan_is_its_fullest_slice_and_of_several_the_lowest(tmp_path):
    _, geometry = read_scan(nib.Nifti1Image(np.zeros((4, 5, 4), np.int16), np.eye(4)).to_bytes())
    masks = np.zeros((4, 5, 4), np.uint8)
    masks[1, :2], masks[2, 2:4] = 1, 1
    slices = found_in_scan(masks, geometry)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        writer = Overlays(tmp_path, slices[0].trained)
        for index in order:
            writer.write(slices[index])
        shown = np.array(Image.open(io.BytesIO((tmp_path / "overlays/scan.png").read_bytes())))
        np.testing.assert_array_equal(shown, overlay(slices[1], None))


def test_names_lead_nowhere_else(tmp_path):
    for name in ("../../x", "/etc/x", "a/../x", "", "."):
        path = place(tmp_path / "masks", name, ".png").resolve()
        assert (tmp_path / "masks") in path.parents, name
    assert place(tmp_path, "x", ".a/../b.png").parent == tmp_path
