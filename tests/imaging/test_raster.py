"""TIFFs in windows: the pixels that decoding the whole gives; what cannot be read so is refused in words."""

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.crs import CRS

from imaging.codec import decode_image, decode_mask, encode_png
from imaging.raster import Raster, bounded_cache, count_pixels, is_tiff, preview_size, read_georeference


def write_tiff(path, pixels: np.ndarray, **layout):
    """Writes [height, width, bands]."""
    height, width, count = pixels.shape
    shape = {"height": height, "width": width, "count": count, "dtype": pixels.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", **shape, **layout) as file:
        file.write(pixels.transpose(2, 0, 1))
    return path


def noise(height: int, width: int, bands: int, dtype="uint8") -> np.ndarray:
    return np.random.default_rng(bands).integers(0, np.iinfo(dtype).max, (height, width, bands), dtype, endpoint=True)


TILED = {"tiled": True, "blockxsize": 32, "blockysize": 32}


@pytest.mark.parametrize("layout", [TILED, {"blockysize": 3}, {"compress": "lzw"}, {"bigtiff": "yes"}])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_rows_are_those_of_the_whole_without_alpha(tmp_path, layout, interleave, dtype, bands):
    pixels = noise(70, 41, bands, dtype)
    colours = {"photometric": "rgb"} if bands > 2 else {}
    alpha = {"alpha": "yes"} if bands in (2, 4) else {}
    path = write_tiff(tmp_path / "a.tif", pixels, interleave=interleave, **layout, **colours, **alpha)
    with Raster(path) as raster:
        assert (raster.height, raster.width, raster.dtype) == (70, 41, dtype)
        assert raster.channels == (3 if bands > 2 else 1)
        np.testing.assert_array_equal(raster.read(20, 33), pixels[20:53, :, : raster.channels])
        np.testing.assert_array_equal(np.concatenate(list(raster.strips(32))), pixels[..., : raster.channels])
    np.testing.assert_array_equal(decode_image(path.read_bytes()), pixels[..., : raster.channels])


@pytest.mark.parametrize(
    ("pixels", "layout", "message"),
    [
        (noise(20, 20, 1).astype(np.float32), {}, "expected 8 or 16 bit pixels, found float32; convert"),
        (noise(20, 20, 1).astype(np.int16), {}, "expected 8 or 16 bit pixels, found int16; convert"),
        (noise(20, 20, 1) // 128, {"nbits": 1}, "of which 0 is black, found 1 bits a pixel; convert"),
        (noise(20, 20, 1), {"photometric": "miniswhite"}, "found a TIFF in which 0 is white; convert"),
        (noise(20, 20, 5), {}, "expected grey or RGB, with or without alpha, found 5 bands"),
        (noise(20, 20, 2), {}, "expected grey or RGB, with or without alpha, found 2 bands"),
        (noise(20, 20, 4), {"photometric": "cmyk"}, "with or without alpha, found CMYK; convert"),
        (noise(20, 20, 1), {"photometric": "palette"}, r"found 1 bands \(palette\); convert"),
    ],
)
def test_other_pixels_are_refused_in_one_line(tmp_path, pixels, layout, message):
    with pytest.raises(ValueError, match=message):
        Raster(write_tiff(tmp_path / "a.tif", pixels, **layout))


def test_pages_and_turned_images_are_refused(tmp_path):
    one = Image.fromarray(noise(20, 30, 1)[..., 0])
    one.save(tmp_path / "pages.tif", save_all=True, append_images=[one])
    with pytest.raises(ValueError, match="expected one image, found a TIFF of 2 pages"):
        Raster(tmp_path / "pages.tif")
    one.save(tmp_path / "turned.tif", tiffinfo={274: 6})
    with pytest.raises(ValueError, match="whose first row is its upper one, found orientation 6; turn it"):
        Raster(tmp_path / "turned.tif")


def test_a_block_as_large_as_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("imaging.raster.MOST_BLOCK_BYTES", 2**20)
    path = write_tiff(tmp_path / "a.tif", noise(800, 700, 3), compress="deflate", blockysize=800)
    with pytest.raises(ValueError, match="at most 1 MiB, found 800x700 pixels of 1 MiB; rewrite it in tiles"):
        Raster(path)


def test_damaged_files_are_told_as_such(tmp_path):
    path = write_tiff(tmp_path / "a.tif", noise(200, 100, 1), compress="deflate", **TILED)
    data = path.read_bytes()
    for name, damaged in {"empty": b"", "short": data[:6], "text": b"II*\0 no TIFF at all"}.items():
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match="the TIFF (cannot be read|is damaged)"):
            Raster(tmp_path / name)
    middle = len(data) // 2
    (tmp_path / "middle.tif").write_bytes(data[:middle] + bytes(500) + data[middle + 500 :])
    with Raster(tmp_path / "middle.tif") as raster, pytest.raises(ValueError, match="the TIFF is damaged"):
        list(raster.strips(16))


def test_a_preview_holds_means_and_keeps_the_shape(tmp_path):
    pixels = noise(80, 40, 3)
    with Raster(write_tiff(tmp_path / "a.tif", pixels)) as raster:
        small = raster.preview(20)
        assert raster.preview(100).shape == pixels.shape
    means = pixels.reshape(20, 4, 10, 4, 3).mean((1, 3))
    assert small.shape == (20, 10, 3)
    np.testing.assert_allclose(small, means, atol=0.51)
    assert preview_size(30_000, 3, 2000) == (2000, 1)


def test_pixels_are_counted_by_headers(tmp_path):
    pixels = noise(30, 50, 3)
    tiff = write_tiff(tmp_path / "a.tif", pixels)
    png = encode_png(pixels)
    (tmp_path / "a.png").write_bytes(png)
    jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
    for file in (tiff, tiff.read_bytes(), tmp_path / "a.png", png, jpeg, png[:60]):
        assert count_pixels(file) == 1500
    for file in (b"", b"text", b"II*\0", png[:10]):
        assert count_pixels(file) == 0
    assert is_tiff(tiff) and is_tiff(tiff.read_bytes()) and not is_tiff(png) and not is_tiff(tmp_path / "a.png")


def test_georeference_is_read_from_bytes_where_there_is_any(tmp_path):
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(2, 0, 500_000, 0, -2, 5_000_000)}
    found = read_georeference(write_tiff(tmp_path / "a.tif", noise(9, 9, 1), **place).read_bytes())
    assert (found.crs.to_epsg(), found.transform) == (32633, place["transform"])
    bare = write_tiff(tmp_path / "b.tif", noise(9, 9, 1)).read_bytes()
    assert [read_georeference(data) for data in (bare, bare[:50], b"", encode_png(noise(9, 9, 1)))] == [None] * 4


SITE = 'LOCAL_CS["site",UNIT["metre",1]]'


@pytest.mark.parametrize(("crs", "corner"), [(SITE, 5), ("EPSG:32633", 1e30)])
def test_what_has_no_degrees_keeps_its_own_system(tmp_path, crs, corner):
    place = {"crs": CRS.from_string(crs), "transform": rasterio.Affine(2, 0, corner, 0, -2, corner)}
    path = write_tiff(tmp_path / "a.tif", noise(9, 9, 1), **place)
    assert not read_georeference(path.read_bytes()).has_degrees
    with Raster(path) as raster:
        assert raster.georeference.transform == place["transform"] and not raster.georeference.has_degrees
        areas = raster.georeference.row_areas_m2(9, 9)
    assert areas is None if crs == SITE else (areas == 4).all()


def test_the_cache_is_bounded_in_all_threads():
    from concurrent.futures import ThreadPoolExecutor

    from rasterio._env import get_gdal_config

    with bounded_cache(), ThreadPoolExecutor(1) as threads:
        assert threads.submit(get_gdal_config, "GDAL_CACHEMAX").result() == 2**28


def test_overviews_are_no_pages(tmp_path):
    pixels = noise(300, 200, 3)
    path = write_tiff(tmp_path / "a.tif", pixels, **TILED)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4])
    np.testing.assert_array_equal(decode_image(path.read_bytes()), pixels)


def test_a_mask_in_the_alpha_of_a_grey_tiff_is_not_an_empty_one(tmp_path):
    pixels = np.zeros((9, 9, 2), np.uint8)
    pixels[2:5, 3:6, 1] = 255
    data = write_tiff(tmp_path / "a.tif", pixels, alpha="yes").read_bytes()
    with pytest.raises(ValueError, match="found it in the alpha channel alone"):
        decode_mask(data)
    np.testing.assert_array_equal(
        decode_mask(write_tiff(tmp_path / "b.tif", pixels[..., 1:]).read_bytes()), pixels[..., 1]
    )
