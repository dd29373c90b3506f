"""Files are made here with affines written by hand; orientation code of nibabel is not used to judge ours."""

import gzip
import itertools
import json
import re
import struct
import tracemalloc
from dataclasses import asdict

import nibabel as nib
import numpy as np
import pytest

from imaging.volume import Geometry, axial_slice, check_same_grid, read_mask, read_scan, volume_from_slices

SPACING = (0.5, 0.75, 2.0)  # mm along x, y, z of the body
ORIENTATIONS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))
CODES = ("LR", "PA", "IS")


def nifti(voxels: np.ndarray, affine=None, image_class=nib.Nifti1Image) -> bytes:
    return image_class(voxels, np.eye(4) if affine is None else affine, dtype=voxels.dtype).to_bytes()


def scaled(stored: np.ndarray, slope: float, inter: float) -> bytes:
    """A file whose values are stored * slope + inter."""
    data = bytearray(nifti(stored))
    data[112:120] = struct.pack("<ff", slope, inter)
    return bytes(data)


def make_affine(axes, signs, shape, origin=(-31.5, 12.25, 700.0)) -> np.ndarray:
    """File axis k runs along axes[k] of the body, forward or backward; the lowest corner lies at the origin."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    affine[:3, 3] = origin
    for k, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[axis, k] = sign * SPACING[axis]
        if sign < 0:
            affine[axis, 3] += SPACING[axis] * (shape[k] - 1)
    return affine


def random_scan(*shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-32768, 32768, shape).astype(np.int16)


def all_slices(volume: np.ndarray) -> np.ndarray:
    return np.stack([axial_slice(volume, index) for index in range(volume.shape[2])])


# --- orientation


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_every_orientation_is_read_in_ras_and_given_back_as_stored(axes, signs):
    stored = random_scan(3, 4, 5)
    affine = make_affine(axes, signs, stored.shape)
    scan, geometry = read_scan(nifti(stored, affine))
    # Each voxel by its millimetres.
    for index in np.ndindex(stored.shape):
        x, y, z = np.rint(((affine @ [*index, 1])[:3] - [-31.5, 12.25, 700.0]) / SPACING).astype(int)
        assert scan[x, y, z] == stored[index]
    assert geometry.shape == (3, 4, 5)
    assert geometry.axis_codes == "".join(CODES[a][int(s > 0)] for a, s in zip(axes, signs, strict=True))
    np.testing.assert_array_equal(geometry.affine, affine)
    assert geometry.spacing_mm == (0.75, 0.5, 2.0)
    np.testing.assert_array_equal(volume_from_slices(all_slices(scan), geometry), stored)
    mask, mask_geometry, _ = read_mask(nifti((stored % 7).astype(np.uint8), affine))
    np.testing.assert_array_equal(mask, scan % 7)
    assert mask_geometry == geometry


def test_a_point_of_the_body_lies_where_a_radiologist_looks_for_it():
    # The file's axes run to posterior, inferior, right; 1, 2 and 3 mm.
    affine = np.array([[0, 0, 3, -30], [-1, 0, 0, 20], [0, -2, 0, 100], [0, 0, 0, 1.0]])
    stored = np.zeros((41, 51, 21), np.int16)
    # 24 mm to the right of the midline, 15 mm in front, 10 mm above the zero of the file.
    stored[5, 45, 18] = 1000
    scan, geometry = read_scan(nifti(stored, affine))
    assert geometry.axis_codes == "PIR"
    assert geometry.spacing_mm == (1, 3, 2)
    # z runs from 0 to 100 mm: the 5th slice above the lowest. y from 20 down to -20: row 5. x from the right, 30 mm: 2.
    picture = axial_slice(scan, 5)
    assert picture.shape == (41, 21)
    assert np.argwhere(picture).tolist() == [[5, 2]]
    assert picture.flags["C_CONTIGUOUS"]
    assert np.count_nonzero(scan) == 1


def test_an_oblique_volume_takes_the_nearest_directions_and_keeps_its_affine():
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1, 2, 3])
    stored = random_scan(4, 3, 5)
    scan, geometry = read_scan(nifti(stored, affine))
    assert geometry.axis_codes == "LAS"
    np.testing.assert_allclose(geometry.spacing_mm, (2, 1, 3), rtol=1e-6)
    np.testing.assert_allclose(geometry.affine, affine, atol=1e-6)
    np.testing.assert_array_equal(scan, stored[::-1])
    np.testing.assert_array_equal(volume_from_slices(all_slices(scan), geometry), stored)


def test_slices_of_any_dtype_go_back_and_a_geometry_survives_json():
    stored = random_scan(3, 4, 5)
    scan, geometry = read_scan(nifti(stored, make_affine((2, 0, 1), (1, -1, 1), stored.shape)))
    restored = Geometry(**json.loads(json.dumps(asdict(geometry))))
    assert restored.spacing_mm == geometry.spacing_mm
    slices = [pixels / np.float32(2) for pixels in all_slices(scan)]
    back = volume_from_slices(slices, restored)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, stored / np.float32(2))


def test_slices_that_do_not_fill_the_volume_are_refused():
    geometry = Geometry((3, 4, 5), ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)), "RAS")
    with pytest.raises(ValueError, match="expected 5 slices of 4 x 3, found 4 of 4 x 3"):
        volume_from_slices(np.zeros((4, 4, 3)), geometry)
    with pytest.raises(ValueError, match="expected 5 slices of 4 x 3, found 5 of 3 x 4"):
        volume_from_slices(np.zeros((5, 3, 4)), geometry)
    with pytest.raises(ValueError, match="found 5 of 4 x 2, 4 x 3"):
        volume_from_slices([np.zeros((4, 3))] * 4 + [np.zeros((4, 2))], geometry)
    with pytest.raises(ValueError, match="found 0 of no size"):
        volume_from_slices([], geometry)


# --- values and containers


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "u1", "<u2", "<i4", "<i8", "<f4", "<f8"])
@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("zipped", [False, True])
def test_integers_of_any_dtype_are_read_as_they_are(zipped, image_class, dtype):
    values = np.random.default_rng(0).integers(0, 256, (3, 4, 5))
    header = image_class.header_class(endianness=">" if dtype.startswith(">") else "<")
    header.set_data_dtype(dtype)
    data = image_class(values, np.eye(4), header).to_bytes()
    assert (data[:2] == b"\0\0") == dtype.startswith(">")  # the header's size, 4 bytes
    data = gzip.compress(data) if zipped else data
    scan, _ = read_scan(data)
    mask, _, is_blurred = read_mask(data)
    assert (scan.dtype, mask.dtype, is_blurred) == (np.int16, np.uint8, False)
    np.testing.assert_array_equal(scan, values)
    np.testing.assert_array_equal(mask, values)


def test_all_of_16_bits_survive():
    values = np.arange(-32768, 32768, dtype=np.int16).reshape(64, 64, 16)
    np.testing.assert_array_equal(read_scan(nifti(values))[0], values)
    np.testing.assert_array_equal(read_scan(nifti(values.astype(np.float32)))[0], values)


def test_scaled_values_are_rounded_to_the_integers_they_mean():
    stored = np.arange(0, 600, 10, dtype=np.uint16).reshape(3, 4, 5)
    scan, _ = read_scan(scaled(stored, 0.1, -1024))  # 0.1 is not exact in the header's 32 bits
    np.testing.assert_array_equal(scan, stored.astype(int) // 10 - 1024)
    mask, _, is_blurred = read_mask(scaled(np.full((2, 2, 2), 255, np.uint8), 1 / 255, 0))
    assert (mask == 1).all()
    assert not is_blurred


def test_trailing_axes_of_one_are_dropped():
    stored = random_scan(3, 4, 5)
    for shape, dtype in itertools.product([(3, 4, 5, 1), (3, 4, 5, 1, 1)], [np.int16, np.float32]):
        scan, geometry = read_scan(nifti(stored.reshape(shape).astype(dtype)))
        np.testing.assert_array_equal(scan, stored)
        assert geometry.shape == (3, 4, 5)


@pytest.mark.parametrize(("zipped", "copies"), [(False, 1.1), (True, 2.2)])
def test_memory_stays_at_the_file_and_one_copy(zipped, copies):
    data = nifti(np.zeros((256, 256, 64), np.int16), np.diag([-1, 1, 1, 1]))
    file = gzip.compress(data, 1) if zipped else data
    tracemalloc.start()
    read_scan(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < copies * len(data)


# --- blurred masks


def test_a_mask_that_was_resampled_smoothly_is_cut_at_one_half():
    values = np.array([-0.12, 0.02, 0.49, 0.5, 0.51, 0.97, 1.08, 1.0], np.float32).reshape(2, 2, 2)
    mask, _, is_blurred = read_mask(nifti(values))
    assert is_blurred
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, np.array([0, 0, 0, 1, 1, 1, 1, 1]).reshape(2, 2, 2))


def test_many_labels_near_integers_are_rounded():
    values = np.array([-0.2, 0.1, 1.25, 2.75, 3.0, 41.1, 254.9, 255.2], np.float32).reshape(2, 2, 2)
    mask, _, is_blurred = read_mask(nifti(values))
    assert is_blurred
    np.testing.assert_array_equal(mask, np.array([0, 0, 1, 3, 3, 41, 255, 255]).reshape(2, 2, 2))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 1, 2, 2.4], r"range 0 to 2.4, up to 0.4 away"),
        ([-0.6, 0.2, 1, 1], "range -0.6 to 1"),
        ([0, 0.5, 1, 1.5], "range 0 to 1.5"),
        ([0, 1, 2, 256], "range 0 to 256"),
        ([-1, 0, 1, 1], "range -1 to 1"),
        ([0, 1, 254, 255.6], "range 0 to 255.6"),
    ],
)
def test_values_that_are_no_labels_are_refused_with_their_range(values, message):
    with pytest.raises(ValueError, match=f"expected labels, integers from 0 to 255, found the {message}"):
        read_mask(nifti(np.array(values, np.float32).reshape(1, 2, 2)))


# --- errors


def with_affine(rows) -> bytes:
    data = bytearray(nifti(random_scan(2, 3, 4)))
    data[280:328] = struct.pack("<12f", *rows)  # srow_x, srow_y, srow_z
    return bytes(data)


VALID = nifti(random_scan(20, 30, 40))
ZIPPED = gzip.compress(VALID)
RGB = np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
BROKEN = {
    "empty": (b"", "the NIfTI cannot be read: it is no single-file NIfTI"),
    "text": (b"not an image" * 100, "the NIfTI cannot be read: it is no single-file NIfTI"),
    "cut_in_header": (VALID[:300], "the NIfTI cannot be read: it is no single-file NIfTI"),
    "cut": (VALID[:-1], f"the NIfTI cannot be read: it is truncated, expected {len(VALID)} bytes, found"),
    "huge": (VALID[:42] + struct.pack("<3h", 32767, 32767, 32767) + VALID[48:], "it is truncated, expected 7036"),
    "dtype": (VALID[:70] + struct.pack("<h", 9999) + VALID[72:], "the NIfTI cannot be read: data code 9999"),
    "offset": (VALID[:108] + struct.pack("<f", np.nan) + VALID[112:], "the NIfTI cannot be read: "),
    "gzip_cut": (ZIPPED[:-20], "the NIfTI cannot be read: its gzip is damaged"),
    "gzip_header": (ZIPPED[:5], "the NIfTI cannot be read: its gzip is damaged"),
    "gzip_flipped": (ZIPPED[:5000] + bytes([ZIPPED[5000] ^ 255]) + ZIPPED[5001:], "its gzip is damaged"),
    "gzip_block": (ZIPPED[:10] + b"\xff" + ZIPPED[11:], "its gzip is damaged: Error -3"),
    "gzip_checksum": (ZIPPED[:-8] + b"\0\0\0\0" + ZIPPED[-4:], "its gzip is damaged: CRC check failed"),
    "two_axes": (nifti(random_scan(3, 4)), "a volume of three axes, found the shape [3, 4]"),
    "four_axes": (nifti(random_scan(3, 4, 5, 2)), "a volume of three axes, found the shape [3, 4, 5, 2]"),
    "no_voxels": (nifti(random_scan(3, 0, 5)), "a volume of three axes, found the shape [3, 0, 5]"),
    "rgb": (nifti(RGB), "one number per voxel, found RGB"),
    "complex": (nifti(np.zeros((2, 2, 2), np.complex64)), "one number per voxel, found complex64"),
    "nan": (nifti(np.array([[[0, 1, np.nan]]], np.float32)), "NaN or infinity in plane 2 of"),
    "infinity": (nifti(np.array([[[0, np.inf, 1]]], np.float32)), "NaN or infinity in plane 1 of"),
    "flat_affine": (with_affine([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]), "an affine that can be inverted, found [["),
    "twin_axes": (with_affine([1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0]), "an affine that can be inverted"),
    "nan_affine": (with_affine([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, np.nan, 0]), "an affine that can be inverted"),
}


@pytest.mark.parametrize("reader", [read_scan, read_mask])
@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_sound_volume_is_refused(name, reader):
    data, message = BROKEN[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        reader(data)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0, 0.5, 1.0], r"as integers, found fractions in the range 0 to 1;"),
        ([-1000.0, 40.002, 900.0], r"as integers, found fractions in the range -1000 to 900;"),
        ([-32769.0, 0.0, 5.0], "within -32768 to 32767, found the range -32769 to 5"),
        ([0.0, 1.0, 32768.0], "within -32768 to 32767, found the range 0 to 32768"),
        ([0.0, 1.0, 1e30], r"within -32768 to 32767, found the range 0 to 1e\+30"),
    ],
)
def test_values_that_are_no_hounsfield_units_are_refused_with_their_range(values, message):
    with pytest.raises(ValueError, match=f"expected Hounsfield units {message}"):
        read_scan(nifti(np.array(values).reshape(1, 1, 3)))


def geometry_of(shape, affine) -> Geometry:
    return read_scan(nifti(np.zeros(shape, np.int16), affine))[1]


def test_a_mask_on_the_scans_grid_passes_and_another_is_refused():
    affine = make_affine((0, 1, 2), (-1, -1, 1), (101, 101, 101))
    scan = geometry_of((101, 101, 101), affine)
    check_same_grid(scan, scan)
    moved = affine.copy()
    moved[0, 3] += 0.0005
    check_same_grid(scan, geometry_of((101, 101, 101), moved))
    with pytest.raises(ValueError, match=r"scan's shape \[101, 101, 101\], found \[101, 101, 100\]"):
        check_same_grid(scan, geometry_of((101, 101, 100), affine))
    moved[2, 3] += 0.25
    with pytest.raises(ValueError, match=r"up to 0.25 mm apart: scan LPS \[-0.5 0 0 .*\]; mask LPS \[-0.5 0 0 .*"):
        check_same_grid(scan, geometry_of((101, 101, 101), moved))


def test_a_difference_of_spacing_counts_where_it_adds_up():
    # 0.00002 mm a slice is 0.002 mm after 100 of them.
    near, far = np.diag([1, 1, 1, 1.0]), np.diag([1, 1, 1.00002, 1])
    check_same_grid(geometry_of((2, 2, 11), near), geometry_of((2, 2, 11), far))
    with pytest.raises(ValueError, match=r"up to 0.002\d* mm apart"):
        check_same_grid(geometry_of((2, 2, 101), near), geometry_of((2, 2, 101), far))


def test_the_same_body_stored_in_another_direction_is_another_grid():
    shape = (4, 4, 4)
    scan, mask = (geometry_of(shape, make_affine((0, 1, 2), (sign, 1, 1), shape)) for sign in (1, -1))
    with pytest.raises(ValueError, match="scan RAS .*; mask LAS"):
        check_same_grid(scan, mask)
