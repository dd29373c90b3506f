"""Image files to arrays and back.

Damaged files raise ValueError instead of giving a grey rest. OpenCV alone is not enough for that (4.11 reads a PNG
whose checksum is wrong), so containers are checked first: every checksum of a PNG, the end of a JPEG. A JPEG has no
checksums; `examine_image` decodes it strictly, `decode_image` does not do so again.

Colours are RGB in arrays; OpenCV's BGR never leaves this module. The EXIF rotation of JPEG and PNG is ignored, as
TensorFlow's decoders ignore it: an image means its stored pixels. The orientation of a TIFF is applied.
"""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")  # the last two of BigTIFF

# Colour types of the PNG specification (ISO/IEC 15948, 11.2.2).
_PNG_GREY, _PNG_PALETTE, _PNG_GREY_ALPHA = 0, 3, 4

MAX_PIXELS = 2**30
"""Larger images are refused by their headers: a file of some bytes can claim more than any memory holds. Pillow's limit
is lower than satellite scenes are large."""
Image.MAX_IMAGE_PIXELS = None


def decode_image(data: bytes) -> np.ndarray:
    """Returns the pixels of an image file: uint8 or uint16 [height, width, channels], 1 (grey) or 3 (RGB) channels.

    Alpha is dropped. Palette images are expanded to colours.

    Raises:
      ValueError: the file is damaged, holds several pages, or its pixels are neither 8 nor 16 bit integers.
    """
    pixels = _decode_unchanged(data)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"expected 8 or 16 bit pixels, found {pixels.dtype}")
    if pixels.ndim == 2:
        return pixels[:, :, np.newaxis]
    if pixels.shape[2] == 2 or (data.startswith(PNG_SIGNATURE) and _png_header(data)[1] == _PNG_GREY_ALPHA):
        return np.ascontiguousarray(pixels[:, :, :1])
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)


class ImageFacts(NamedTuple):
    """What one look at an image file tells.

    height, width: pixels. channels: 1 or 3. depth: 8 or 16 bits. The rest is measured on the grey image, for a JPEG
    at an eighth of its size; grey values as shares of the highest that the depth allows:
    mean, contrast: their mean and standard deviation. clipped: share of pixels at 1. (Most of
    a fluorescence image is 0, as it should be.)
    blank: all pixels are equal.
    perceptual_hash: 64-bit difference hash, 16 hex digits; images that look alike differ in few bits
    (N. Krawetz, "Kind of Like That", 2013: is each pixel of a 9x8 grey thumbnail brighter than its right neighbour).
    None where most neighbours are equal, so that the hash would say nothing.
    """

    height: int
    width: int
    channels: int
    depth: int
    mean: float
    contrast: float
    clipped: float
    blank: bool
    perceptual_hash: str | None


def examine_image(data: bytes) -> ImageFacts:
    """Returns an image file's facts from one decoding; a JPEG is decoded at an eighth of its size.

    Raises:
      ValueError: as `decode_image` does.
    """
    if data.startswith(JPEG_SIGNATURE):
        _check_container(data)
        try:
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
                channels = 1 if image.mode == "L" else 3
                # Pillow, because it raises where libjpeg gives up; OpenCV returns the rest grey.
                image.draft("L", (max(1, width // 8), max(1, height // 8)))
                grey = np.array(image.convert("L"))
        except (OSError, SyntaxError) as error:
            raise ValueError(f"the JPEG is damaged: {error}") from error
        depth = 8
    else:
        pixels = decode_image(data)
        (height, width, channels), depth = pixels.shape, pixels.dtype.itemsize * 8
        grey = pixels[:, :, 0] if channels == 1 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    full = 2**depth - 1
    mean, contrast = (float(value[0, 0]) / full for value in cv2.meanStdDev(grey))
    clipped = np.count_nonzero(grey == full) / grey.size
    blank = bool(grey.min() == grey.max())
    return ImageFacts(height, width, channels, depth, mean, contrast, clipped, blank, _difference_hash(grey))


def _difference_hash(grey: np.ndarray) -> str | None:
    thumbnail = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    left, right = thumbnail[:, :-1], thumbnail[:, 1:]
    if np.count_nonzero(left == right) > left.size // 2:
        return None
    return np.packbits((left > right).ravel()).tobytes().hex()


def decode_mask(data: bytes) -> np.ndarray:
    """Returns the label values of a mask file: uint8 or uint16 [height, width].

    A palette PNG gives its indices, not its colours; a PNG of 1, 2 or 4 bit gives its stored values, which OpenCV
    stretches to 0-255. A grey mask saved as RGB gives its one channel.

    Raises:
      ValueError: the file is damaged, or a colour image.
    """
    if data.startswith(PNG_SIGNATURE):
        depth, colour = _png_header(data)
        if colour == _PNG_PALETTE:
            _check_container(data)
            try:
                with Image.open(io.BytesIO(data)) as image:
                    return np.array(image)
            except OSError as error:
                raise ValueError(f"the PNG is damaged: {error}") from error
        pixels = _decode_unchanged(data)
        if colour == _PNG_GREY and depth < 8:
            return pixels // (255 // (2**depth - 1))
    else:
        pixels = _decode_unchanged(data)
    if pixels.ndim == 3:
        if pixels.shape[2] in (2, 4) and np.ptp(pixels[:, :, -1]) and not np.ptp(pixels[:, :, :-1]):
            raise ValueError("expected a mask in the pixels' values, found it in the alpha channel alone")
        if pixels.shape[2] > 2 and (pixels[:, :, :1] != pixels[:, :, 1:3]).any():
            raise ValueError("expected a mask of one value per pixel (grey or palette), found a colour image")
        pixels = pixels[:, :, 0]
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"expected 8 or 16 bit mask values, found {pixels.dtype}")
    return pixels


def decode_colors(data: bytes) -> np.ndarray:
    """Returns the colours of a mask file: uint8 [height, width, 3], RGB; grey has three equal channels.

    Raises:
      ValueError: the file is damaged, or has 16 bits a channel.
    """
    pixels = decode_image(data)
    if pixels.dtype != np.uint8:
        raise ValueError(f"expected a mask of 8-bit colours, found {pixels.dtype}")
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def encode_png(pixels: np.ndarray) -> bytes:
    """Returns the PNG file of uint8 or uint16 pixels, [height, width] or [height, width, 1 or 3] (RGB).

    Compression level 1: at 256x256 it takes 2.4 ms against 3.4 ms for level 3, for files an eighth larger.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done, f"OpenCV could not encode {pixels.dtype}{list(pixels.shape)}"
    return data.tobytes()


def encode_indexed_png(mask: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> bytes:
    """Returns the PNG file of a mask, uint8 [height, width], whose values are shown in these colours (RGB)."""
    image = Image.fromarray(mask, "P")
    image.putpalette([value for rgb in palette for value in rgb])
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def encode_jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """Returns the JPEG file of uint8 pixels, [height, width, 1 or 3] (RGB); quality 1 to 100."""
    if pixels.shape[2] == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, f"OpenCV could not encode {pixels.dtype}{list(pixels.shape)}"
    return data.tobytes()


def image_format(data: bytes) -> str | None:
    """Returns "png" or "jpeg", the formats that TensorFlow's decoders read, or None for another.

    A JPEG in CMYK is another: without a certain marker, decoders disagree about its colours.
    """
    if data.startswith(PNG_SIGNATURE):
        return "png"
    if not data.startswith(JPEG_SIGNATURE):
        return None
    with Image.open(io.BytesIO(data)) as image:
        return None if image.mode == "CMYK" else "jpeg"


def _decode_unchanged(data: bytes) -> np.ndarray:
    _check_container(data)
    try:
        if data.startswith(TIFF_SIGNATURES) and (pixels := _decode_tiff(data)) is not None:
            return pixels
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(f"the image cannot be decoded: {error.err}") from error
    if pixels is None:
        raise ValueError("the image is damaged, or of a format that is not supported")
    return pixels


def _decode_tiff(data: bytes) -> np.ndarray | None:
    """Returns the pixels of a TIFF as OpenCV has them, grey, BGR or BGRA, or grey and alpha; None: OpenCV decodes it.

    GDAL comes first: OpenCV 4.11 multiplies 8-bit colours by their alpha, takes overviews for pages, and fails at tiles
    of 16 pixels. But it knows palettes, 0 for white, and where the first row lies.
    """
    from imaging.raster import decode_tiff  # GDAL is loaded for TIFFs alone

    bands = decode_tiff(data)
    if bands is None:
        _check_tiff(data)
        return None
    if bands.shape[2] < 3:
        return bands[:, :, 0] if bands.shape[2] == 1 else bands
    return cv2.cvtColor(bands, cv2.COLOR_RGBA2BGRA if bands.shape[2] == 4 else cv2.COLOR_RGB2BGR)


def _check_container(data: bytes) -> None:
    """Raises ValueError unless the file is complete as far as its container tells."""
    if not data:
        raise ValueError("the file is empty")
    _check_size(data)
    if data.startswith(PNG_SIGNATURE):
        _check_png(data)
    elif data.startswith(JPEG_SIGNATURE) and b"\xff\xd9" not in data[-1024:]:
        # Some cameras write a little behind the end-of-image marker.
        raise ValueError("the JPEG is truncated: it has no end-of-image marker")


def _check_size(data: bytes) -> None:
    """Raises ValueError if the header claims more than `MAX_PIXELS`."""
    if data.startswith(PNG_SIGNATURE) and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)  # much quicker than Pillow, and masks are many
    else:
        try:
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
        except (OSError, SyntaxError, ValueError):
            return  # decoding will say what is wrong
    if width * height > MAX_PIXELS:
        raise ValueError(f"expected at most {MAX_PIXELS} pixels, found {height}x{width}; cut the image into parts")


def _check_png(data: bytes) -> None:
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        if zlib.crc32(data[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            kind = data[position + 4 : position + 8].decode("latin-1")
            raise ValueError(f"the PNG is damaged: its {kind} chunk at byte {position} fails its checksum")
        if data[position + 4 : position + 8] == b"acTL":
            raise ValueError("expected one image, found an animated PNG")
        if data[position + 4 : position + 8] == b"IEND":
            return
        position = end + 4
    raise ValueError(f"the PNG is truncated: {len(data)} bytes without its end")


def _check_tiff(data: bytes) -> None:
    """Raises ValueError for what OpenCV 4.11 reads as other pixels: 16 bits in planes, or with 0 for white."""
    stream = io.BytesIO(data)
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(stream.read(16 if data[2:4] in (b"+\0", b"\0+") else 8))
        stream.seek(tags.next)
        tags.load(stream)
        bits, planes = max(tags.get(258, (1,))), tags.get(277, 1) if tags.get(284) == 2 else 1
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error) as error:
        raise ValueError(f"the TIFF is damaged: {error}") from error
    if bits > 8 and planes > 1:
        raise ValueError(f"expected a 16-bit TIFF with its channels side by side, found {planes} planes; convert it")
    if bits > 8 and tags.get(262) == 0:
        raise ValueError("expected a 16-bit TIFF in which 0 is black, found one in which it is white; convert it")


def _png_header(data: bytes) -> tuple[int, int]:
    """Returns (bits per sample, colour type) of a PNG."""
    if len(data) < 26:
        raise ValueError(f"the PNG is truncated: {len(data)} bytes")
    return data[24], data[25]
