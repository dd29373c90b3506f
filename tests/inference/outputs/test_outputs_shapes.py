"""Outlines and codes, turned back into labels by other software than what wrote them."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from pycocotools import mask as coco_codec
from pycocotools.coco import COCO
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize

from imaging.georeference import Georeference
from imaging.rle import decode_rle
from inference.outputs.shapes import Coco, Contours, RunLengths
from tests.inference.outputs.making import found_in, trained_on


def blobs(height=30, width=41, seed=0) -> np.ndarray:
    """Objects of all shapes: specks, holes, parts that touch at a corner or lie at the edge."""
    return np.random.default_rng(seed).random((height, width)) < 0.35


RING = np.zeros((9, 11))
RING[1:8, 2:9] = 1
RING[3:6, 4:7] = 0
RING[4, 5] = 1
EDGES = np.ones((3, 5))
DIAGONAL = np.eye(4)


@pytest.mark.parametrize("mask", [blobs(), RING, EDGES, DIAGONAL, np.ones((1, 1)), np.zeros((4, 4))])
def test_outlines_filled_are_the_objects(tmp_path, mask):
    found = found_in(mask)
    Contours(tmp_path, found.trained).write(found)
    features = json.loads((tmp_path / "contours/x.geojson").read_text())["features"]
    labels = found.labels["cell"]
    assert [one["properties"]["object"] for one in features] == list(range(1, labels.max() + 1))
    filled = np.zeros(mask.shape, np.int32)
    for one in features:
        area = rasterize([one["geometry"]], out_shape=mask.shape) > 0
        assert one["properties"] == {
            "class": "cell",
            "object": one["properties"]["object"],
            "pixels": area.sum(),
            "score": 0.75,
        }
        assert not filled[area].any()
        filled[area] = one["properties"]["object"]
    np.testing.assert_array_equal(filled, labels)


def test_rings_are_closed_and_inside_the_image(tmp_path):
    found = found_in(blobs())
    Contours(tmp_path, found.trained).write(found)
    for one in json.loads((tmp_path / "contours/x.geojson").read_text())["features"]:
        for polygon in one["geometry"]["coordinates"]:
            for ring in polygon:
                assert ring[0] == ring[-1] and len(ring) >= 5
                x, y = np.array(ring).T
                assert 0 <= x.min() < x.max() <= 41 and 0 <= y.min() < y.max() <= 30


def coco_of(tmp_path, founds, trained) -> COCO:
    writer = Coco(tmp_path, trained)
    for found in founds:
        writer.collect(writer.write(found))
    writer.close()
    return COCO(str(tmp_path / "coco.json"))


def test_outlines_of_a_picture_that_lies_on_the_earth_are_in_degrees(tmp_path):
    found = found_in(RING)
    placed = found.frame._replace(georeference=Georeference(CRS.from_epsg(4326), Affine(0.5, 0, 10, 0, -0.25, 50)))
    Contours(tmp_path, found.trained).write(dataclasses.replace(found, frame=placed))
    features = json.loads((tmp_path / "contours/x.geojson").read_text())["features"]
    # RING's outer edge: columns 2 to 9, rows 1 to 8.
    points = np.concatenate([np.array(ring) for ring in features[0]["geometry"]["coordinates"][0]])
    assert (points.min(0), points.max(0)) == (pytest.approx([11, 48]), pytest.approx([14.5, 49.75]))


def test_coco_loads_and_its_codes_are_the_objects(tmp_path):
    trained = trained_on(("fish", "sugar"), overlapping=True)
    probabilities = np.random.default_rng(3).random((2, 30, 41, 2)).astype(np.float32)
    founds = [
        found_in(blobs(seed=number) + 2 * blobs(seed=number + 5), probabilities[number], trained, f"x{number}")
        for number in range(2)
    ]
    founds.insert(1, found_in(np.zeros((4, 4)), trained=trained, name="empty"))
    data = coco_of(tmp_path, founds, trained)
    assert [one["name"] for one in data.loadCats(data.getCatIds())] == ["fish", "sugar"]
    assert [one["name"] for one in data.loadImgs(data.getImgIds())] == ["x0", "empty", "x1"]
    assert not list(tmp_path.glob("*.part"))
    for image_id, found in enumerate(founds, 1):
        for category, name in enumerate(("fish", "sugar"), 1):
            annotations = data.loadAnns(data.getAnnIds(imgIds=[image_id], catIds=[category]))
            assert len(annotations) == found.labels[name].max()
            for number, one in enumerate(annotations, 1):
                area = found.labels[name] == number
                np.testing.assert_array_equal(data.annToMask(one), area)
                assert one["area"] == area.sum() == coco_codec.area(one["segmentation"])
                assert one["score"] == pytest.approx(found.probability(name)[area].mean(), abs=1e-4)
                rows, columns = np.nonzero(area)
                x, y = columns.min(), rows.min()
                assert one["bbox"] == [x, y, columns.max() + 1 - x, rows.max() + 1 - y]


def test_coco_without_images_or_objects_loads(tmp_path):
    trained = trained_on()
    assert coco_of(tmp_path, [], trained).getImgIds() == []
    data = coco_of(tmp_path, [found_in(np.zeros((3, 3)))], trained)
    assert (len(data.getImgIds()), data.getAnnIds()) == (1, [])


def test_run_lengths_decode_to_the_objects_and_nothing_has_an_empty_row(tmp_path):
    trained = trained_on(("background", "a,b", "c"))
    names = ['deep/x "1"', "empty"]
    mask = blobs() + blobs(seed=1) * (1 - blobs()) * 2
    founds = [found_in(mask, None, trained, names[0]), found_in(np.zeros((2, 2)), None, trained, names[1])]
    writer = RunLengths(tmp_path, trained)
    for found in founds:
        writer.collect(writer.write(found))
    assert not (tmp_path / "rle.csv").exists()
    writer.close()
    with (tmp_path / "rle.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["Image", "Class", "EncodedPixels"]
    assert rows[-2:] == [["empty", "a,b", ""], ["empty", "c", ""]]
    for name in ("a,b", "c"):
        codes = [code for image, of, code in rows if (image, of) == (names[0], name)]
        assert len(codes) == founds[0].labels[name].max() > 1
        for number, code in enumerate(codes, 1):
            np.testing.assert_array_equal(decode_rle(code, *mask.shape), founds[0].labels[name] == number)
