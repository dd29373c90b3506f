"""Small CT datasets for tests."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from preprocess.config import CtLayout, PreprocessConfig
from preprocess.index import find_items
from preprocess.raw import RawFiles

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
