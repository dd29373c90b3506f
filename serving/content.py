"""What an upload is, by its bytes, and whether it is small enough to be decoded."""

import gzip
import io
import math
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

from imaging.codec import JPEG_SIGNATURE, PNG_SIGNATURE, TIFF_SIGNATURES
from inference.inputs.frames import Frame, read_frames
from inference.inputs.sources import Kind, Source
from inference.run import TrainedModel
from serving.config import ServeConfig
from serving.errors import RefusedError

_GZIP_SIGNATURE = b"\x1f\x8b"
_BMP_SIGNATURE = b"BM"

_HEADER_BYTES = 540
"""Of NIfTI-2; NIfTI-1 has 348."""
_MOST_EXTENSIONS = 16 * 2**20
"""Bytes between a NIfTI's header and its voxels, and behind them."""


class Upload(NamedTuple):
    """A file that is small enough.

    Attributes:
      kind: "picture" or "scan".
      data: its bytes.
      memory: bytes that it may take until it is answered, estimated.
      pixels: of the picture, or voxels of the scan.
    """

    kind: Kind
    data: bytes
    memory: int
    pixels: int


def examine(data: bytes, trained: TrainedModel, config: ServeConfig) -> Upload:
    """Returns what a file is, from its header alone.

    Raises:
      RefusedError: 422, it is no picture and no NIfTI, or damaged; 413, it is too large.
    """
    if data.startswith(_GZIP_SIGNATURE) or _is_nifti(data):
        try:
            return _examine_scan(data, config)
        except (OSError, EOFError, zlib.error, struct.error) as error:
            raise RefusedError(422, f"the NIfTI cannot be read: {error}") from error
    if not data.startswith((PNG_SIGNATURE, JPEG_SIGNATURE, *TIFF_SIGNATURES, _BMP_SIGNATURE)):
        raise RefusedError(
            422, f"expected a PNG, JPEG, TIFF, BMP or NIfTI file, found {len(data)} bytes of none of them"
        )
    height, width = _picture_size(data)
    if height * width > config.max_pixels:
        raise RefusedError(413, f"expected at most {config.max_pixels} pixels, found {height}x{width}")
    # As stored and prepared, 2 bytes of 3 channels each; weighted sums in float64; float32 at both sizes, and masks.
    pixels = height * width
    return Upload("picture", data, pixels * (24 + 20 * trained.labels.outputs) + len(data), pixels)


def open_frames(upload: Upload, trained: TrainedModel, config: ServeConfig) -> Iterator[Frame]:
    """Yields the frames of an upload, as `predict.py` reads them.

    Raises:
      RefusedError: 422, it cannot be decoded, or the model knows no such images; 413, it has too many slices.
    """

    def fail(_, reason: str) -> None:
        raise RefusedError(422, reason)

    source = Source("upload", "upload", upload.kind, lambda: _unzipped(upload.data), "upload")
    frames = read_frames([source], trained, fail)
    try:
        yield from (_check_frame(frame, config) for frame in frames)
    except (RefusedError, MemoryError):
        raise
    except Exception as error:  # whatever a decoder says of a file that a stranger made
        raise RefusedError(422, f"the file is damaged: {type(error).__name__}") from error


def _check_frame(frame: Frame, config: ServeConfig) -> Frame:
    if frame.scan is not None and frame.scan.num_slices > config.max_slices:
        raise RefusedError(413, f"expected at most {config.max_slices} slices, found {frame.scan.num_slices}")
    height, width = frame.image.shape[:2]
    if height * width > config.max_pixels:
        raise RefusedError(413, f"expected at most {config.max_pixels} pixels, found {height}x{width}")
    return frame


def _picture_size(data: bytes) -> tuple[int, int]:
    """Returns (height, width) of a picture, by its header."""
    if data.startswith(PNG_SIGNATURE) and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return height, width
    if data.startswith(TIFF_SIGNATURES):
        from imaging.raster import tiff_size  # GDAL is loaded for TIFFs alone

        try:
            return tiff_size(data)
        except ValueError as error:
            raise RefusedError(422, str(error)) from error
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "BMP"]) as image:
            return image.height, image.width
    # Pillow's readers raise what they like.
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, OverflowError, struct.error) as error:
        raise RefusedError(422, "the image is damaged: its header cannot be read") from error


def _is_nifti(data: bytes) -> bool:
    return data[344:348] == b"n+1\0" or data[4:8] == b"n+2\0"


def _examine_scan(data: bytes, config: ServeConfig) -> Upload:
    zipped = data.startswith(_GZIP_SIGNATURE)
    header = gzip.GzipFile(fileobj=io.BytesIO(data)).read(_HEADER_BYTES) if zipped else data[:_HEADER_BYTES]
    if not _is_nifti(header):
        raise RefusedError(422, "expected a NIfTI file, found other content in the gzip")
    voxels, end = _nifti_size(header)
    if voxels > config.max_voxels:
        raise RefusedError(413, f"expected at most {config.max_voxels} voxels, found {voxels}")
    # The file, zipped and not, the volume as int16, its copy in the order of the axes, and the mask.
    return Upload("scan", data, len(data) + end * zipped + 5 * voxels, voxels)


def _unzipped(data: bytes) -> bytes:
    """Returns a scan without its gzip, taken off only as far as its header says."""
    if not data.startswith(_GZIP_SIGNATURE):
        return data
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        _, end = _nifti_size(stream.read(_HEADER_BYTES))
        stream.seek(0)
        content = stream.read(end + _MOST_EXTENSIONS + 1)
    if len(content) > end + _MOST_EXTENSIONS:
        raise RefusedError(413, f"expected {end} bytes in the gzip, as the NIfTI's header says, found more")
    return content


def _nifti_size(header: bytes) -> tuple[int, int]:
    """Returns (voxels, bytes of the file) by a NIfTI's header."""
    if header[344:348] == b"n+1\0":
        order = "<" if struct.unpack_from("<i", header)[0] == 348 else ">"
        axes, *lengths = struct.unpack_from(f"{order}8h", header, 40)
        (bits,), (offset,) = struct.unpack_from(f"{order}h", header, 72), struct.unpack_from(f"{order}f", header, 108)
    else:
        order = "<" if struct.unpack_from("<i", header)[0] == 540 else ">"
        axes, *lengths = struct.unpack_from(f"{order}8q", header, 16)
        (bits,), (offset,) = struct.unpack_from(f"{order}h", header, 14), struct.unpack_from(f"{order}q", header, 168)
    if not 1 <= axes <= 7 or min(lengths[:axes]) < 1 or not 1 <= bits <= 64 or not 0 <= offset <= _MOST_EXTENSIONS:
        raise RefusedError(422, "the NIfTI cannot be read: its header is damaged")
    voxels = math.prod(lengths[:axes])
    return voxels, int(offset) + voxels * bits // 8
