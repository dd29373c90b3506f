"""Chests with lungs and infections, as Kaggle's COVID-19 CT scans has them."""

import csv
import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from preprocess.synthetic.config import SyntheticConfig

_SHAPE = (64, 64, 24)
_MASKS = ("lung_mask", "infection_mask", "lung_and_infection_mask")
_PREFIX = "../input/covid19-ct-scans/"  # where the competition's machines have the files
# Scanners and converters store voxels in any of these directions.
_AXIS_CODES = ("RAS", "LPS", "LAS")


def make_chest(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns a chest and its labels.

    Returns:
      scan: int16 [64, 64, 24] Hounsfield units. labels: uint8, 1 left lung, 2 right lung, 3 infection within a lung.
      The axes run to the patient's right, front and head.
    """
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in _SHAPE), indexing="ij")
    labels = np.zeros(_SHAPE, np.uint8)
    wobble = generator.uniform(0, 2 * np.pi)
    for label, side in ((1, -1), (2, 1)):
        width, depth = generator.uniform(0.24, 0.3), generator.uniform(0.4, 0.52)
        wide = 1 + 0.1 * np.sin(5 * z + wobble + side)
        lung = ((x - 0.38 * side) / (width * wide)) ** 2 + (y / depth) ** 2 + (z / 0.85) ** 2 < 1
        labels[lung] = label
        for _ in range(generator.integers(1, 3)):
            place = generator.uniform((0.2, -0.3, -0.5), (0.5, 0.3, 0.5)) * (side, 1, 1)
            size = generator.uniform(0.12, 0.22)
            spot = ((x - place[0]) ** 2 + (y - place[1]) ** 2 + 0.4 * (z - place[2]) ** 2) < size**2
            labels[lung & spot] = 3
    body = (x / 0.9) ** 2 + (y / 0.75) ** 2 < 1
    units = np.where(body, 40.0, -1000.0)
    units[(labels == 1) | (labels == 2)] = -830
    units[labels == 3] = -350
    spine = (x / 0.12) ** 2 + ((y + 0.55) / 0.12) ** 2 < 1
    units[spine & (labels == 0)] = 500
    units += generator.normal(0, 25, _SHAPE)
    return np.rint(units).astype(np.int16), labels


def write_ct(folder: Path, config: SyntheticConfig) -> None:
    """Writes ct_scans/, three directories of masks, and metadata.csv, whose paths begin elsewhere.

    Files alternate between .nii and .nii.gz; directions of the axes differ between volumes.
    """
    for name in ("ct_scans", *_MASKS):
        (folder / name).mkdir(parents=True)
    rows = []
    for number in range(max(3, config.images // 8)):
        generator = np.random.default_rng([config.seed, number])
        scan, labels = make_chest(generator)
        affine = np.diag([5.5, 5.5, generator.uniform(8, 12), 1])
        codes, suffix = _AXIS_CODES[number % 3], (".nii", ".nii.gz")[number % 2]
        masks = {
            "lung_mask": np.where(labels == 3, np.where(_is_left(labels.shape), 1, 2), labels),
            "infection_mask": labels == 3,
            "lung_and_infection_mask": labels,
        }
        paths = [f"ct_scans/coronacases_org_{number + 1:03d}{suffix}"]
        _write_volume(folder / paths[0], scan, affine, codes)
        for name in _MASKS:
            paths.append(f"{name}/coronacases_{number + 1:03d}{suffix}")
            _write_volume(folder / paths[-1], masks[name].astype(np.uint8), affine, codes)
        rows.append([_PREFIX + path for path in paths])
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("ct_scan", *_MASKS), *rows])


def _is_left(shape: tuple[int, int, int]) -> np.ndarray:
    """Returns whether voxels lie in the patient's left half, which comes first along x."""
    return np.arange(shape[0])[:, np.newaxis, np.newaxis] < shape[0] // 2


def _write_volume(path: Path, volume: np.ndarray, affine: np.ndarray, codes: str) -> None:
    """Writes a volume given in the direction RAS with its axes in the direction of the codes."""
    image = nib.Nifti1Image(volume, affine)
    directions = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(codes))
    )
    data = image.as_reoriented(directions).to_bytes()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
