"""Files are made by hand or by Pillow, so that OpenCV is never judged by itself."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from imaging.codec import decode_image, decode_mask, encode_png, examine_image, image_format

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
COLOURS = bytes([10, 20, 30, 200, 0, 0, 0, 150, 0, 0, 0, 99])  # palette entries 0 to 3


def random_pixels(*shape, high=256, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, high, shape, dtype=dtype)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples: np.ndarray, depth: int, colour: int, palette: bytes = b"", keep: float = 1.0) -> bytes:
    """A PNG made straight from its specification: samples [height, width, channels], no row filter."""
    height, width = samples.shape[:2]
    flat = samples.reshape(height, -1)
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in flat]
    else:
        bits = np.unpackbits(flat.astype(np.uint8)[..., None], axis=2)[:, :, 8 - depth :]
        rows = [np.packbits(row.ravel()).tobytes() for row in bits]
    packed = zlib.compress(b"".join(b"\0" + row for row in rows))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"PLTE", palette) if palette else b"")
        + chunk(b"IDAT", packed[: int(len(packed) * keep)])
        + chunk(b"IEND", b"")
    )


def saved(pixels: np.ndarray, file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()


def smooth_image(height: int, width: int) -> np.ndarray:
    """An RGB image that survives JPEG nearly unchanged, with a different slope almost everywhere."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(7 * x + 3 * y), np.cos(5 * y - 2 * x), np.sin(4 * (x + y) + 1)]
    return np.stack([127 + 100 * wave for wave in waves], -1).astype(np.uint8)


# --- images


@pytest.mark.parametrize(("depth", "dtype"), [(8, np.uint8), (16, np.uint16)])
@pytest.mark.parametrize(("colour", "channels"), [(GREY, 1), (RGB, 3), (GREY_ALPHA, 2), (RGBA, 4)])
def test_decoding_keeps_grey_and_colours_in_rgb_order_and_drops_alpha(colour, channels, depth, dtype):
    samples = random_pixels(5, 7, channels, high=2**depth, dtype=dtype)
    image = decode_image(png(samples, depth, colour))
    expected = samples[:, :, : 1 if channels < 3 else 3]
    assert image.dtype == dtype
    np.testing.assert_array_equal(image, expected)
    assert image.flags["C_CONTIGUOUS"]


def test_a_palette_image_gives_its_colours():
    indices = random_pixels(5, 7, 1, high=4)
    expected = np.frombuffer(COLOURS, np.uint8).reshape(4, 3)[indices[:, :, 0]]
    np.testing.assert_array_equal(decode_image(png(indices, 8, PALETTE, COLOURS)), expected)
    np.testing.assert_array_equal(decode_image(png(indices, 2, PALETTE, COLOURS)), expected)


def test_a_one_bit_image_is_black_and_white():
    bits = random_pixels(3, 11, 1, high=2)
    np.testing.assert_array_equal(decode_image(png(bits, 1, GREY)), bits * 255)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_decodes_close_to_what_was_saved(mode):
    pixels = smooth_image(37, 53)
    pixels = pixels if mode == "RGB" else pixels[:, :, 0]
    image = decode_image(saved(pixels, "JPEG", quality=98, subsampling=0))
    expected = pixels.reshape(37, 53, -1)
    assert image.shape == expected.shape
    # Swapped channels would differ by up to 200.
    assert np.abs(image.astype(int) - expected).max() <= 8


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate"])
def test_tiff_of_8_and_16_bits_decodes_exactly(compression):
    colours, deep = random_pixels(9, 6, 3), random_pixels(9, 6, high=2**16, dtype=np.uint16)
    np.testing.assert_array_equal(decode_image(saved(colours, "TIFF", compression=compression)), colours)
    np.testing.assert_array_equal(decode_image(saved(deep, "TIFF", compression=compression)), deep[:, :, None])


def test_bmp_decodes_exactly():
    colours = random_pixels(9, 6, 3)
    np.testing.assert_array_equal(decode_image(saved(colours, "BMP")), colours)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_exif_rotation_is_ignored(file_format):
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to show it"
    pixels = smooth_image(16, 24)
    data = saved(pixels, file_format, exif=exif)
    assert data != saved(pixels, file_format)
    np.testing.assert_array_equal(decode_image(data), decode_image(saved(pixels, file_format)))
    assert examine_image(data)[:2] == (16, 24)


# --- masks


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_grey_mask_gives_its_stored_values(depth):
    dtype = np.uint16 if depth == 16 else np.uint8
    # 11 columns fill no whole byte at 1, 2 or 4 bit; all values occur.
    values = np.resize(np.arange(2 ** min(depth, 6), dtype=dtype) * (1000 if depth == 16 else 1), (7, 11))
    mask = decode_mask(png(values[:, :, None], depth, GREY))
    assert mask.dtype == dtype
    np.testing.assert_array_equal(mask, values)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_palette_mask_gives_its_indices_not_its_colours(depth):
    indices = random_pixels(7, 11, 1, high=min(4, 2**depth))
    mask = decode_mask(png(indices, depth, PALETTE, COLOURS))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, indices[:, :, 0])


def test_a_palette_mask_with_a_transparent_colour_gives_its_indices():
    indices = random_pixels(7, 11, high=4)
    image = Image.fromarray(indices).convert("L")
    image.putpalette(COLOURS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=0)
    np.testing.assert_array_equal(decode_mask(buffer.getvalue()), indices)


def test_a_grey_mask_saved_with_colour_channels_or_alpha_gives_its_one_channel():
    values = random_pixels(7, 11, 1)
    alpha = np.full_like(values, 100)
    for samples, colour in (
        (np.dstack([values] * 3), RGB),
        (np.dstack([values, values, values, alpha]), RGBA),
        (np.dstack([values, alpha]), GREY_ALPHA),
    ):
        np.testing.assert_array_equal(decode_mask(png(samples, 8, colour)), values[:, :, 0])


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_colour_mask_is_refused_even_if_one_pixel_alone_is_coloured(channel):
    samples = np.full((7, 11, 3), 5, np.uint8)
    samples[3, 4, channel] = 6
    with pytest.raises(ValueError, match=r"expected a mask of one value per pixel.* found a colour image"):
        decode_mask(png(samples, 8, RGB))


def test_a_tiff_mask_gives_its_values():
    values = random_pixels(7, 11, high=2**16, dtype=np.uint16)
    np.testing.assert_array_equal(decode_mask(saved(values, "TIFF")), values)


# --- what is refused


def test_an_empty_file_is_refused_as_empty():
    for decode in (decode_image, decode_mask, examine_image):
        with pytest.raises(ValueError, match="the file is empty"):
            decode(b"")


def test_what_is_no_image_is_refused():
    for decode in (decode_image, decode_mask, examine_image):
        for data in (b"hello world", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\xff\xd9", b"II*\x00"):
            with pytest.raises(ValueError):
                decode(data)


@pytest.mark.parametrize("colour", [GREY, PALETTE])
def test_a_png_truncated_anywhere_is_refused(colour):
    data = png(random_pixels(5, 7, 1, high=4), 8, colour, COLOURS if colour == PALETTE else b"")
    for length in range(8, len(data)):
        for decode in (decode_image, decode_mask, examine_image):
            with pytest.raises(ValueError, match=r"truncated|damaged"):
                decode(data[:length])


@pytest.mark.parametrize("colour", [GREY, PALETTE])
def test_a_flipped_bit_in_the_data_of_a_png_is_refused_and_the_chunk_named(colour):
    data = bytearray(png(random_pixels(5, 7, 1, high=4), 8, colour, COLOURS if colour == PALETTE else b""))
    begin = data.index(b"IDAT") + 4
    for position in (begin, begin + 9, len(data) - 12 - 5):
        altered = bytearray(data)
        altered[position] ^= 1
        for decode in (decode_image, decode_mask, examine_image):
            with pytest.raises(ValueError, match=rf"IDAT chunk at byte {begin - 8} fails its checksum"):
                decode(bytes(altered))


@pytest.mark.parametrize("colour", [GREY, PALETTE])
def test_a_png_whose_writer_stopped_early_is_refused_although_its_checksums_are_right(colour):
    data = png(random_pixels(40, 40, 1, high=4), 8, colour, COLOURS if colour == PALETTE else b"", keep=0.6)
    for decode in (decode_image, decode_mask, examine_image):
        with pytest.raises(ValueError):
            decode(data)


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.99])
def test_a_truncated_jpeg_is_refused(keep):
    data = saved(smooth_image(64, 80), "JPEG")
    for decode in (decode_image, examine_image):
        with pytest.raises(ValueError, match="truncated: it has no end-of-image marker"):
            decode(data[: int(len(data) * keep)])


def test_a_few_bytes_behind_the_end_of_a_jpeg_are_allowed():
    data = saved(smooth_image(64, 80), "JPEG")
    np.testing.assert_array_equal(decode_image(data + bytes(100)), decode_image(data))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_truncated_tiff_is_refused(compression):
    data = saved(random_pixels(40, 40), "TIFF", compression=compression)
    with pytest.raises(ValueError, match="damaged"):
        decode_image(data[: len(data) // 2])


def test_a_tiff_of_several_pages_is_refused_and_the_pages_counted():
    pages = [Image.fromarray(random_pixels(8, 8)) for _ in range(3)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    with pytest.raises(ValueError, match="expected one image, found a TIFF of 3 pages"):
        decode_image(buffer.getvalue())


def test_a_tiff_of_floats_is_refused_and_the_type_named():
    data = saved(np.random.default_rng(0).random((5, 7)).astype(np.float32), "TIFF")
    with pytest.raises(ValueError, match="expected 8 or 16 bit pixels, found float32"):
        decode_image(data)
    with pytest.raises(ValueError, match="expected 8 or 16 bit mask values, found float32"):
        decode_mask(data)


# --- encoding


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (1, 1), (300, 2, 3)])
def test_png_encoding_is_lossless(shape, dtype):
    pixels = random_pixels(*shape, high=np.iinfo(dtype).max + 1, dtype=dtype)
    data = encode_png(pixels)
    image = decode_image(data)
    assert image.dtype == dtype
    np.testing.assert_array_equal(image, pixels.reshape(*shape[:2], -1))
    if len(shape) == 2:
        np.testing.assert_array_equal(decode_mask(data), pixels)


def test_an_encoded_png_is_what_other_software_reads():
    colours, deep = random_pixels(5, 7, 3), random_pixels(5, 7, high=2**16, dtype=np.uint16)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(encode_png(colours)))), colours)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(encode_png(deep)))).astype(int), deep)


def test_encoding_the_same_pixels_gives_the_same_bytes():
    pixels = random_pixels(33, 17, 3)
    assert encode_png(pixels) == encode_png(pixels.copy())


def test_the_format_is_told_by_the_first_bytes():
    pixels = random_pixels(8, 8)
    formats = [image_format(saved(pixels, name)) for name in ("PNG", "JPEG", "TIFF", "BMP")]
    assert formats == ["png", "jpeg", None, None]


# --- facts


def test_facts_of_a_png():
    facts = examine_image(png(random_pixels(5, 7, 4), 8, RGBA))
    assert (facts[:4], facts.blank) == ((5, 7, 3, 8), False)
    facts = examine_image(png(np.full((6, 3, 1), 40000), 16, GREY))
    assert (facts[:4], facts.blank) == ((6, 3, 1, 16), True)


def test_brightness_contrast_and_clipping_are_shares_of_the_full_range():
    grey = np.array([[0, 255], [51, 102]], np.uint8)
    facts = examine_image(encode_png(grey))
    assert facts.mean == pytest.approx(0.4)
    assert facts.contrast == pytest.approx(np.std([0, 1, 0.2, 0.4]))
    assert facts.clipped == 0.25
    facts = examine_image(encode_png(grey.astype(np.uint16) * 257))
    assert (facts.mean, facts.clipped) == (pytest.approx(0.4), 0.25)


@pytest.mark.parametrize(("height", "width"), [(37, 53), (64, 48), (7, 5), (1, 9)])
def test_facts_of_a_jpeg_hold_its_exact_size_whatever_its_decoding_at_an_eighth_gives(height, width):
    pixels = smooth_image(height, width)
    assert examine_image(saved(pixels, "JPEG"))[:4] == (height, width, 3, 8)
    assert examine_image(saved(pixels[:, :, 0], "JPEG"))[:4] == (height, width, 1, 8)


def test_a_jpeg_of_one_colour_is_blank_and_another_is_not():
    assert examine_image(saved(np.full((40, 30, 3), 90, np.uint8), "JPEG")).blank
    assert not examine_image(saved(smooth_image(40, 30), "JPEG")).blank


def test_a_jpeg_larger_than_pillow_likes_is_examined():
    # Pillow takes images above 178,956,970 pixels for an attack; satellite and slide images are that large.
    height, width = 11_200, 16_000
    rows = Image.new("L", (width, height), 7)
    buffer = io.BytesIO()
    rows.save(buffer, "JPEG")
    facts = examine_image(buffer.getvalue())
    assert (facts[:4], facts.blank) == ((height, width, 1, 8), True)


def test_the_perceptual_hash_says_where_the_right_neighbour_is_darker():
    falling = np.tile(np.arange(90, 0, -10, dtype=np.uint8), (8, 1))  # 9x8: the thumbnail is the image itself
    assert examine_image(encode_png(falling)).perceptual_hash == "f" * 16
    assert examine_image(encode_png(falling[:, ::-1])).perceptual_hash == "0" * 16
    rising = falling[:, ::-1].copy()
    rising[0, 2] = 0  # of the first row only pixel 1 is brighter than its right neighbour: 0100 0000
    assert examine_image(encode_png(rising)).perceptual_hash == "40" + "00" * 7


def test_an_image_without_structure_has_no_perceptual_hash():
    step = np.zeros((8, 9), np.uint8)
    step[0, :2] = 1
    assert examine_image(encode_png(step)).perceptual_hash is None


def test_a_re_encoded_image_keeps_its_perceptual_hash_and_another_does_not():
    pixels = smooth_image(96, 120)
    of_png = examine_image(encode_png(pixels)).perceptual_hash
    assert examine_image(saved(pixels, "BMP")).perceptual_hash == of_png
    of_jpeg = examine_image(saved(pixels, "JPEG", quality=95)).perceptual_hash
    assert examine_image(saved(pixels, "JPEG", quality=80)).perceptual_hash == of_jpeg
    assert (int(of_png, 16) ^ int(of_jpeg, 16)).bit_count() <= 2
    other = examine_image(encode_png(pixels[:, ::-1])).perceptual_hash
    assert (int(of_png, 16) ^ int(other, 16)).bit_count() > 16
