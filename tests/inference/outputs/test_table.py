"""predictions.csv against numbers by hand, and failed.csv."""

import csv
import dataclasses

import nibabel as nib
import numpy as np
import pytest
from rasterio import Affine
from rasterio.crs import CRS

from imaging.georeference import Georeference
from imaging.volume import read_scan
from inference.outputs.table import Summary, write_failed
from tests.inference.outputs.making import found_in, found_in_scan, trained_on


def table(tmp_path, founds, trained=None) -> list[dict[str, str]]:
    summary = Summary(tmp_path, trained or trained_on())
    for found in founds:
        summary.collect(summary.write(found))
    summary.close()
    with (tmp_path / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def two_objects() -> np.ndarray:
    mask = np.zeros((6, 8))
    mask[1:3, 1:4] = 1
    mask[4, 6] = 1
    return mask


def test_a_picture_has_its_objects_and_pixels_and_areas_where_distances_are_known(tmp_path):
    plain, known = found_in(two_objects(), name="a"), found_in(two_objects(), name="b", spacing_mm=(0.5, 0.25, 3.0))
    first, second = table(tmp_path, [plain, known])
    assert first == {
        **{"name": "a", "file": "in/a.png", "height": "6", "width": "8", "cleared": "False"},
        **{"objects": "2", "pixels": "7", "area_mm2": ""},
    }
    assert float(second["area_mm2"]) == 7 * 0.5 * 0.25
    assert list(table(tmp_path, [plain])[0]) == ["name", "file", "height", "width", "cleared", "objects", "pixels"]


def test_a_picture_that_lies_on_the_earth_has_its_area_in_square_metres(tmp_path):
    found = found_in(two_objects())
    placed = Georeference(CRS.from_epsg(32633), Affine(2, 0, 500_000, 0, -3, 5_000_000))
    row = table(tmp_path, [dataclasses.replace(found, frame=found.frame._replace(georeference=placed))])[0]
    assert float(row["area_m2"]) == pytest.approx(7 * 6)


def test_several_classes_have_columns_each(tmp_path):
    mask = two_objects()
    mask[4, 6] = 2
    trained = trained_on(("background", "road", "car"))
    (row,) = table(tmp_path, [found_in(mask, trained=trained)], trained)
    assert {name: row[name] for name in row if "/" in name} == {
        **{"objects/road": "1", "pixels/road": "6", "objects/car": "1", "pixels/car": "1"}
    }


def scan_of(slices: int, name="scan"):
    affine = np.diag([0.5, 2.0, 3.0, 1.0])  # 3 mm³ a voxel
    _, geometry = read_scan(nib.Nifti1Image(np.zeros((4, 5, slices), np.int16), affine).to_bytes())
    masks = np.zeros((slices, 5, 4), np.uint8)
    for index in range(slices):
        masks[index].ravel()[: index + 1] = 1
    return found_in_scan(masks, geometry, name=name)


def test_a_scan_has_one_row_with_its_volume(tmp_path):
    first, second = table(tmp_path, [*scan_of(3), found_in(two_objects(), name="picture")])
    assert (first["name"], first["slices"], first["pixels"], first["objects"]) == ("scan", "3", "6", "")
    assert (first["height"], first["width"]) == ("5", "4")
    assert float(first["volume_ml"]) == pytest.approx(6 * 3 / 1000)
    assert (second["slices"], second["objects"], second["pixels"], second["volume_ml"]) == ("", "2", "7", "")


def test_a_scan_that_lacks_a_slice_has_no_row(tmp_path):
    whole, part = scan_of(3, "whole"), scan_of(3, "part")
    assert [row["name"] for row in table(tmp_path, [*part[:2], *whole])] == ["whole"]


def test_nothing_predicted_is_a_table_without_rows(tmp_path):
    assert table(tmp_path, []) == []
    assert (tmp_path / "predictions.csv").read_text().startswith("name,file,height,width,")


def test_failures_are_listed_and_those_of_an_earlier_time_go(tmp_path):
    path = write_failed(tmp_path, [('a "b", c.png', "it is\ndamaged"), ("x\udcff.png", "too")])
    with path.open(newline="", errors="surrogateescape") as file:
        rows = list(csv.reader(file))
    assert rows == [["file", "reason"], ['a "b", c.png', "it is\ndamaged"], ["x\udcff.png", "too"]]
    write_failed(tmp_path, [])
    assert not path.exists()
