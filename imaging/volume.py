"""CT volumes in NIfTI files, and where their voxels lie.

Files store their axes in any order and direction. In memory a volume is always [x, y, z] in RAS+: indices grow to the
patient's right, to anterior, to superior. Its geometry keeps how the file had it, so that a prediction can be given
back on the very grid of the scan. The axes of an oblique volume are named by the nearest direction of the body;
nothing is resampled.

Files come as bytes, because raw data may lie in a zip.
"""

import gzip
import io
import itertools
import shutil
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.imageglobals import ErrorLevel, LoggingOutputSuppressor
from nibabel.orientations import aff2axcodes, apply_orientation, axcodes2ornt, ornt_transform
from nibabel.spatialimages import HeaderDataError

# Headers and scale factors are 32-bit floats: what is closer than this is equal.
_VALUE_TOLERANCE = 1e-3
_GRID_TOLERANCE_MM = 1e-3
# Of nibabel's levels: a wrong header size is 30, the many scanners' missing direction of the quaternion 20.
_DAMAGED_HEADER = 30
_NIBABEL = threading.Lock()
"""Its levels are those of the process: two threads would put back what the other has set."""


@dataclass(frozen=True)
class Geometry:
    """Where a volume's voxels lie, as its file says.

    shape: voxels along the file's three axes.
    affine: 4x4, from the file's voxel indices to mm in RAS+.
    axis_codes: where each of the file's axes points, such as "LAS": left, anterior, superior.
    """

    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]
    axis_codes: str

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Millimetres from row to row, column to column and slice to slice of the axial slices."""
        by_axis = np.linalg.norm(np.array(self.affine)[:3, :3], axis=0).tolist()
        return tuple(by_axis[_find_axis(self.axis_codes, ends)] for ends in ("AP", "RL", "SI"))


def read_scan(data: bytes) -> tuple[np.ndarray, Geometry]:
    """Returns a scan's Hounsfield units, int16 [x, y, z] in RAS+, and its geometry.

    Args:
      data: a NIfTI file, with or without gzip.

    Raises:
      ValueError: the file cannot be read, has no three axes or no usable affine, or its values are not integers of
        16 bits.
    """
    voxels, geometry = _open(data)
    if _is_stored_as(voxels, np.int16):
        return _to_ras(np.asanyarray(voxels), geometry), geometry
    values = _examine(voxels)
    if values.fraction > _VALUE_TOLERANCE:
        raise ValueError(
            f"expected Hounsfield units as integers, found fractions in the range {values}; "
            "give the scan before it was normalised or resampled, or round it"
        )
    limits = np.iinfo(np.int16)
    if round(values.low) < limits.min or round(values.high) > limits.max:
        raise ValueError(f"expected Hounsfield units within {limits.min} to {limits.max}, found the range {values}")
    return _to_ras(_round(voxels, np.int16), geometry), geometry


def read_mask(data: bytes) -> tuple[np.ndarray, Geometry, bool]:
    """Returns a mask's labels, uint8 [x, y, z] in RAS+, its geometry, and whether interpolation had blurred them.

    Labels are integers from 0 to 255. A mask that was resampled smoothly overshoots them a little and has values
    between them: within -0.5 to 1.5 it is foreground from 0.5 on; otherwise each value is rounded, if none is further
    than 0.25 from a label.

    Args:
      data: a NIfTI file, with or without gzip.

    Raises:
      ValueError: as `read_scan` does, for values that are no labels.
    """
    voxels, geometry = _open(data)
    if _is_stored_as(voxels, np.uint8):
        return _to_ras(np.asanyarray(voxels), geometry), geometry, False
    values = _examine(voxels)
    is_label = round(values.low) >= 0 and round(values.high) <= 255
    if is_label and values.fraction <= _VALUE_TOLERANCE:
        return _to_ras(_round(voxels, np.uint8), geometry), geometry, False
    if values.low > -0.5 and values.high < 1.5:
        return _to_ras(_threshold(voxels), geometry), geometry, True
    if is_label and values.fraction <= 0.25:
        return _to_ras(_round(voxels, np.uint8), geometry), geometry, True
    raise ValueError(
        f"expected labels, integers from 0 to 255, found the range {values}, "
        f"up to {values.fraction:.3g} away from an integer"
    )


def check_same_grid(scan: Geometry, mask: Geometry) -> None:
    """Raises ValueError unless the mask's voxels lie on the scan's, to 1e-3 mm."""
    if tuple(scan.shape) != tuple(mask.shape):
        raise ValueError(f"expected a mask of the scan's shape {list(scan.shape)}, found {list(mask.shape)}")
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, length - 1) for length in scan.shape))])
    # The distance between two affine maps is largest at a corner.
    apart = np.linalg.norm(corners @ (np.array(scan.affine) - np.array(mask.affine)).T, axis=1).max()
    if not apart <= _GRID_TOLERANCE_MM:
        raise ValueError(
            f"expected the mask's voxels on the scan's, found them up to {apart:.4g} mm apart: "
            f"scan {_describe(scan)}; mask {_describe(mask)}"
        )


def axial_slice(volume: np.ndarray, index: int) -> np.ndarray:
    """Returns [height, width] of a volume [x, y, z] in RAS+, as radiologists look at it, contiguous.

    Rows go from anterior to posterior, columns from the patient's right to the left: `volume[::-1, ::-1, index].T`.
    Index 0 is the lowest slice.
    """
    return np.ascontiguousarray(volume[::-1, ::-1, index].T)


def volume_from_slices(slices: Sequence[np.ndarray] | np.ndarray, geometry: Geometry) -> np.ndarray:
    """Returns all axial slices, lowest first, as a volume in the file's own shape and orientation.

    The inverse of `read_scan` or `read_mask` and `axial_slice`; any dtype, which is kept.

    Raises:
      ValueError: the slices are not as many and as large as the geometry says.
    """
    columns, rows, count = (geometry.shape[_find_axis(geometry.axis_codes, ends)] for ends in ("RL", "AP", "SI"))
    found = sorted({pixels.shape for pixels in slices})
    if len(slices) != count or found != [(rows, columns)]:
        raise ValueError(
            f"expected {count} slices of {rows} x {columns}, found {len(slices)} of "
            f"{', '.join(' x '.join(map(str, shape)) for shape in found) or 'no size'}"
        )
    volume = np.asarray(slices).transpose(2, 1, 0)[::-1, ::-1]
    return apply_orientation(volume, ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(geometry.axis_codes)))


def encode_volume(volume: np.ndarray, geometry: Geometry) -> bytes:
    """Returns the NIfTI file, with gzip, of a volume in the file's own shape and orientation, on that grid."""
    image = nib.Nifti1Image(volume, np.array(geometry.affine))
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=1)


class _Values(NamedTuple):
    """What one look at all voxels tells: the range, and how far a value lies from the nearest integer at most."""

    low: float
    high: float
    fraction: float

    def __str__(self) -> str:
        return f"{self.low:.6g} to {self.high:.6g}"


def _open(data: bytes) -> tuple[ArrayProxy, Geometry]:
    """Returns the voxels, three axes in the file's order and read only when they are asked for, and the geometry."""
    content = _unzip(data)
    try:
        # nibabel would mend a damaged header by guessing, and say so on stderr only.
        with _NIBABEL, ErrorLevel(_DAMAGED_HEADER), LoggingOutputSuppressor():
            image = _image_class(content).from_bytes(content)
    except (HeaderDataError, OSError, ValueError, OverflowError) as error:
        raise ValueError(f"the NIfTI cannot be read: {error}") from error
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"expected a volume of three axes, found the shape {list(image.shape)}")
    voxels = image.dataobj.reshape(shape)
    if voxels.dtype.kind not in "iuf":
        raise ValueError(f"expected one number per voxel, found {image.header.get_value_label('datatype')}")
    # Checked before anything of that size is allocated.
    end = voxels.offset + int(np.prod(shape, dtype=object)) * voxels.dtype.itemsize
    if end > len(content):
        raise ValueError(f"the NIfTI cannot be read: it is truncated, expected {end} bytes, found {len(content)}")
    return voxels, _geometry(shape, image.affine)


def _unzip(data: bytes) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        return data
    content = io.BytesIO()
    try:
        stream = gzip.GzipFile(fileobj=io.BytesIO(data))
        content.write(stream.read(1 << 20))
        _image_class(content.getvalue())  # what is no volume could take gigabytes
        # In pieces, because gzip.decompress takes nearly three times the memory of its result.
        shutil.copyfileobj(stream, content, 1 << 20)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"the NIfTI cannot be read: its gzip is damaged: {error}") from error
    return content.getvalue()


def _image_class(content: bytes) -> type[nib.Nifti1Image]:
    if content[344:348] == b"n+1\0":
        return nib.Nifti1Image
    if content[4:8] == b"n+2\0":
        return nib.Nifti2Image
    raise ValueError("it is no single-file NIfTI (.nii or .nii.gz)")


def _geometry(shape: tuple[int, ...], affine: np.ndarray) -> Geometry:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / np.where(spacing > 0, spacing, 1)
    if not np.isfinite(affine).all() or abs(np.linalg.det(directions)) < 1e-6:
        raise ValueError(f"expected an affine that can be inverted, found {affine.tolist()}")
    rows = tuple(tuple(row) for row in affine.tolist())
    return Geometry(tuple(map(int, shape)), rows, "".join(aff2axcodes(affine)))


def _describe(geometry: Geometry) -> str:
    rows = "; ".join(" ".join(f"{value:.6g}" for value in row) for row in geometry.affine[:3])
    return f"{geometry.axis_codes} [{rows}]"


def _find_axis(axis_codes: str, ends: str) -> int:
    """Returns which of the file's axes runs between two ends of the body."""
    return next(axis for axis, code in enumerate(axis_codes) if code in ends)


def _to_ras(volume: np.ndarray, geometry: Geometry) -> np.ndarray:
    return apply_orientation(volume, axcodes2ornt(geometry.axis_codes))


def _is_stored_as(voxels: ArrayProxy, dtype: type) -> bool:
    return voxels.dtype == dtype and (voxels.slope, voxels.inter) == (1, 0)


# Scaled values are 64-bit floats: they are made one plane of the file's third axis at a time, never for a whole volume.


def _examine(voxels: ArrayProxy) -> _Values:
    low, high, fraction = np.inf, -np.inf, 0.0
    for index in range(voxels.shape[2]):
        plane = voxels[:, :, index]
        if not np.isfinite(plane).all():
            raise ValueError(f"expected finite values, found NaN or infinity in plane {index} of the file's third axis")
        low, high = min(low, float(plane.min())), max(high, float(plane.max()))
        if plane.dtype.kind == "f":
            fraction = max(fraction, float(np.abs(plane - np.rint(plane)).max()))
    return _Values(low, high, fraction)


def _round(voxels: ArrayProxy, dtype: type) -> np.ndarray:
    volume = np.empty(voxels.shape, dtype, order="F")
    for index in range(voxels.shape[2]):
        volume[:, :, index] = np.rint(voxels[:, :, index])
    return volume


def _threshold(voxels: ArrayProxy) -> np.ndarray:
    volume = np.empty(voxels.shape, np.uint8, order="F")
    for index in range(voxels.shape[2]):
        volume[:, :, index] = voxels[:, :, index] >= 0.5
    return volume
