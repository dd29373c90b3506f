"""Where pixels lie on the earth, against numbers known otherwise."""

import numpy as np
import pytest
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.warp import transform

from imaging.georeference import Georeference, ring_area

SQUARE = {"type": "Polygon", "coordinates": [[(0, 0), (0, 4), (4, 4), (4, 0), (0, 0)]]}
HOLED = {
    "type": "Polygon",
    "coordinates": [SQUARE["coordinates"][0], [(1, 1), (2, 1), (2, 2), (1, 2), (1, 1)]],
}


def test_degrees_stay_and_rings_run_as_geojson_wants_them():
    degrees = Georeference(CRS.from_epsg(4326), Affine(0.5, 0, 10, 0, -0.25, 50))
    geometry, holed = degrees.geometries([SQUARE, HOLED])
    assert set(map(tuple, geometry["coordinates"][0])) == {(10, 50), (10, 49), (12, 49), (12, 50)}
    assert ring_area(geometry["coordinates"][0]) == 2
    assert [ring_area(ring) for ring in holed["coordinates"]] == [2, -0.125]


def test_parts_of_one_object_stay_together():
    degrees = Georeference(CRS.from_epsg(4326), Affine(1, 0, 0, 0, -1, 0))
    both = {"type": "MultiPolygon", "coordinates": [HOLED["coordinates"], SQUARE["coordinates"]]}
    geometries = degrees.geometries([SQUARE, both, HOLED])
    assert [geometry["type"] for geometry in geometries] == ["Polygon", "MultiPolygon", "Polygon"]
    assert geometries[1]["coordinates"] == [geometries[2]["coordinates"], geometries[0]["coordinates"]]
    assert [[ring_area(ring) for ring in part] for part in geometries[1]["coordinates"]] == [[16, -1], [16]]
    assert degrees.geometries([]) == []


@pytest.mark.parametrize("epsg", [32633, 3857, 3035])
def test_points_of_a_projected_image_are_turned_into_degrees(epsg):
    (x,), (y,) = transform("EPSG:4326", CRS.from_epsg(epsg), [15.2], [48.1])
    placed = Georeference(CRS.from_epsg(epsg), Affine(3, 1, x, 1, -3, y))  # turned, too
    (geometry,) = placed.geometries([SQUARE])
    corners = [(x + 3 * column + row, y + column - 3 * row) for column, row in SQUARE["coordinates"][0]]
    expected = set(
        zip(*np.round(transform(CRS.from_epsg(epsg), "EPSG:4326", *zip(*corners, strict=True)), 6), strict=True)
    )
    found = {tuple(np.round(point, 6)) for point in geometry["coordinates"][0]}
    assert found == expected and (15.2, 48.1) in found
    assert ring_area(geometry["coordinates"][0]) > 0


def test_what_crosses_the_180th_meridian_is_cut():
    fiji = Georeference(CRS.from_epsg(32760), Affine(50_000, 0, 750_000, 0, -50_000, 8_000_000))
    (geometry,) = fiji.geometries([SQUARE])
    assert geometry["type"] == "MultiPolygon"
    east, west = sorted((np.array(polygon[0])[:, 0] for polygon in geometry["coordinates"]), key=np.min)
    assert east.min() == -180 and west.max() == 180


def test_areas_of_pixels_in_a_plane_are_those_of_the_plane():
    metres = Georeference(CRS.from_epsg(32633), Affine(2, 0, 500_000, 0, -3, 5_000_000))
    np.testing.assert_array_equal(metres.row_areas_m2(4, 9), [6] * 4)
    feet = Georeference(CRS.from_epsg(2263), Affine(1, 0, 980_000, 0, -1, 200_000))  # New York, US survey feet
    np.testing.assert_allclose(feet.row_areas_m2(2, 2), [(1200 / 3937) ** 2] * 2)


def test_areas_of_degrees_add_up_to_the_surface_of_the_earth():
    whole = Georeference(CRS.from_epsg(4326), Affine(1, 0, -180, 0, -1, 90))
    areas = whole.row_areas_m2(180, 360)
    assert areas.sum() * 360 == pytest.approx(5.10065622e14, rel=1e-4)  # of WGS 84
    assert areas[89] / areas[29] == pytest.approx(2, rel=0.02)  # at the equator against 60 degrees


def test_web_mercator_is_measured_on_the_earth():
    (x,), (y,) = transform("EPSG:4326", "EPSG:3857", [10], [60])
    areas = Georeference(CRS.from_epsg(3857), Affine(1, 0, x, 0, -1, y)).row_areas_m2(1, 1)
    assert areas[0] == pytest.approx(0.25, rel=0.01)


def test_rings_far_from_the_origin_keep_their_area():
    ring = [(x + 1e7, y + 1e7) for x, y in SQUARE["coordinates"][0]]
    assert ring_area(ring) == -16 and ring_area(ring[::-1]) == 16
