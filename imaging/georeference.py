"""Where an image lies on the earth: pixel coordinates to longitude and latitude, and pixels to square metres."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError  # what GDAL says of coordinates comes as it is
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform, transform_geom

_LONGITUDE_LATITUDE = CRS.from_epsg(4326)  # the only one that GeoJSON knows (RFC 7946, 4)
_WEB_MERCATOR = 3857

# The ellipsoid of WGS 84, in metres: half the longer axis, and the square of the eccentricity.
_RADIUS, _ECCENTRICITY_SQUARED = 6378137.0, 0.00669437999014

_DECIMALS = 9  # of degrees: a tenth of a millimetre


class Georeference(NamedTuple):
    """A coordinate reference system, and where pixels lie in it.

    Attributes:
      crs: the system.
      transform: from (column, row) to its coordinates; (0, 0) is the upper left corner of the image.
      has_degrees: whether it can be turned into longitude and latitude; that of a building site, say, cannot.
    """

    crs: CRS
    transform: rasterio.Affine
    has_degrees: bool = True

    @classmethod
    def of(cls, file: rasterio.DatasetReader) -> "Georeference | None":
        """Returns that of an open image; None: it has none."""
        if file.crs is None or file.transform.is_identity:
            return None
        corners = [(x, y) for x in (0, file.width) for y in (0, file.height)]
        return cls(file.crs, file.transform, _has_degrees(file.crs, [file.transform @ corner for corner in corners]))

    def geometries(self, polygons: Sequence[dict]) -> list[dict]:
        """Returns GeoJSON geometries in longitude and latitude (WGS 84), as RFC 7946 wants them.

        Outer rings run counterclockwise; what crosses the 180th meridian is cut there.

        Only where it has degrees.

        Args:
          polygons: GeoJSON Polygons or MultiPolygons in pixels, (column, row), from the image's upper left corner.
        """
        rings = [ring for polygon in polygons for ring in _rings(polygon)]
        placed = self._place(np.concatenate(rings)) if rings else np.zeros((0, 2))
        # All points at once: one by one they take longer than predicting the image.
        degrees = np.transpose(transform(self.crs, _LONGITUDE_LATITUDE, *placed.T)[:2]).round(_DECIMALS)
        turned = iter(np.split(degrees, np.cumsum([len(ring) for ring in rings])[:-1]))
        return [self._geometry(polygon, [next(turned) for _ in _rings(polygon)]) for polygon in polygons]

    def _geometry(self, polygon: dict, degrees: list[np.ndarray]) -> dict:
        """Returns a geometry in degrees, given the points of its rings, [points, 2] each."""
        if any(np.ptp(ring[:, 0]) > 180 for ring in degrees):
            placed = _each_ring(polygon, lambda ring: self._place(np.array(ring)).tolist())
            cut = transform_geom(self.crs, _LONGITUDE_LATITUDE, placed, precision=_DECIMALS)
            return _wound(cut)
        turned = iter(degrees)
        return _wound(_each_ring(polygon, lambda _: next(turned).tolist()))

    def _place(self, points: np.ndarray) -> np.ndarray:
        """Returns the coordinates of pixels, [points, 2] each."""
        a, b, c, d, e, f, *_ = self.transform
        return points @ np.array([[a, d], [b, e]]) + (c, f)

    def row_areas_m2(self, height: int, width: int) -> np.ndarray | None:
        """Returns the square metres of a pixel of each row, float64 [height]; None: not known.

        In the plane of a projected system, as it is; on the ellipsoid of WGS 84 where the system is of degrees, or Web
        Mercator, whose metres are longer than the earth's but at the equator.

        Args:
          height, width: of the image.
        """
        a, b, c, d, e, f, *_ = self.transform
        if self.crs.is_projected and self.crs.to_epsg() != _WEB_MERCATOR:
            return np.full(height, abs(a * e - b * d) * self.crs.linear_units_factor[1] ** 2)
        if not self.has_degrees:
            return None
        middle, rows = width / 2, np.arange(height) + 0.5
        # A pixel's sides as degrees, from the points half a pixel beside its centre.
        around = [(middle - 0.5, rows), (middle + 0.5, rows), (middle, rows - 0.5), (middle, rows + 0.5)]
        points = [(a * x + b * y + c + 0 * rows, d * x + e * y + f + 0 * rows) for x, y in around]
        degrees = [transform(self.crs, _LONGITUDE_LATITUDE, *point) for point in points]
        left, right, upper, lower = np.radians(np.array(degrees))
        across, down = right - left, lower - upper  # [longitude or latitude, height]
        latitude = (upper[1] + lower[1]) / 2
        bend = 1 - _ECCENTRICITY_SQUARED * np.sin(latitude) ** 2
        east, north = _RADIUS / np.sqrt(bend) * np.cos(latitude), _RADIUS * (1 - _ECCENTRICITY_SQUARED) / bend**1.5
        return np.abs(across[0] * down[1] - across[1] * down[0]) * east * north


def _has_degrees(crs: CRS, points: list[tuple[float, float]]) -> bool:
    try:
        return bool(np.isfinite(transform(crs, _LONGITUDE_LATITUDE, *zip(*points, strict=True))).all())
    except (CRSError, CPLE_BaseError):
        return False


def _rings(geometry: dict) -> list:
    coordinates = geometry["coordinates"]
    return coordinates if geometry["type"] == "Polygon" else [ring for polygon in coordinates for ring in polygon]


def _each_ring(geometry: dict, change: Callable[[list], list]) -> dict:
    """Returns the geometry with its rings changed, in the order of `_rings`."""
    if geometry["type"] == "Polygon":
        return {"type": "Polygon", "coordinates": [change(ring) for ring in geometry["coordinates"]]}
    polygons = [[change(ring) for ring in polygon] for polygon in geometry["coordinates"]]
    return {"type": "MultiPolygon", "coordinates": polygons}


def _wound(geometry: dict) -> dict:
    """Returns the geometry with outer rings that run counterclockwise, and those of holes clockwise."""
    coordinates = geometry["coordinates"]
    outers = [0] if geometry["type"] == "Polygon" else np.cumsum([0, *map(len, coordinates)]).tolist()
    place = itertools.count()
    return _each_ring(geometry, lambda ring: ring if (ring_area(ring) > 0) == (next(place) in outers) else ring[::-1])


def ring_area(ring: list) -> float:
    """Returns the area within a closed ring of points; negative where it runs clockwise, with y upwards."""
    x, y = np.asarray(ring, np.float64).T
    # From the first point on: far from the origin, products lose the digits that matter.
    x, y = x - x[0], y - y[0]
    return float(x[:-1] @ y[1:] - x[1:] @ y[:-1]) / 2
