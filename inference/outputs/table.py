"""predictions.csv: what was found, a row for each image or scan; failed.csv: what could not be predicted."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from inference.outputs.files import csv_rows, write_whole
from inference.outputs.found import Found
from inference.run import TrainedModel

_MEASURES = ("objects", "pixels", "area_mm2", "area_m2", "volume_ml")


class Summary:
    """predictions.csv.

    Columns: name, file, height, width; slices of a scan; cleared (by a gate: it found nothing); for each class objects
    (of pictures), pixels, and where it is known area_mm2, of scans volume_ml, of pictures that say where on the earth
    they lie area_m2. With several classes their names stand behind a slash. Columns in which nothing would stand are
    left out, and so are scans that lack a slice.
    """

    def __init__(self, folder: Path, trained: TrainedModel):
        self._path = folder / "predictions.csv"
        behind = [f"/{name}" if len(trained.scored_classes) > 1 else "" for name in trained.scored_classes.values()]
        self._behind = dict(zip(trained.scored_classes.values(), behind, strict=True))
        measures = [f"{what}{name}" for name in behind for what in _MEASURES]
        self._columns = ["name", "file", "height", "width", "slices", "cleared", *measures]
        self._rows: dict[str, dict] = {}
        self._slices: dict[str, int] = {}

    def write(self, found: Found) -> dict:
        """Returns the row of a picture, or of a slice."""
        frame, prediction = found.frame, found.prediction
        height, width = prediction.mask.shape
        row = {"name": frame.name, "file": frame.where, "height": height, "width": width}
        if frame.scan is not None:
            row["slices"] = frame.scan.num_slices
        row["cleared"] = prediction.cleared
        row_areas = frame.georeference.row_areas_m2(height, width) if frame.georeference else None
        for name, area in found.areas.items():
            behind = self._behind[name]
            pixels = int(np.count_nonzero(area))
            if frame.scan is None:
                row[f"objects{behind}"] = int(found.labels[name].max(initial=0))
            row[f"pixels{behind}"] = pixels
            if row_areas is not None:
                row[f"area_m2{behind}"] = float(area.sum(1) @ row_areas)
            if frame.spacing_mm is not None and frame.scan is None:
                row[f"area_mm2{behind}"] = pixels * frame.spacing_mm[0] * frame.spacing_mm[1]
            elif frame.spacing_mm is not None:
                row[f"volume_ml{behind}"] = pixels * float(np.prod(frame.spacing_mm)) / 1000
        return row

    def collect(self, result: dict) -> None:
        """Takes what `write` returned: a slice is added to its scan."""
        name = result["name"]
        self._rows[name] = _added(self._rows[name], result) if name in self._rows else result
        self._slices[name] = self._slices.get(name, 0) + 1

    def close(self) -> None:
        """Writes the file."""
        rows = [row for name, row in self._rows.items() if row.get("slices") in (None, self._slices[name])]
        columns = [name for name in self._columns if not rows or any(name in row for row in rows)]
        table = [columns, *([row.get(name, "") for name in columns] for row in rows)]
        write_whole(self._path, csv_rows(table))


def _added(scan: dict, one: dict) -> dict:
    """Returns the row of a scan with that of one more slice."""
    sums = {key: scan[key] + value for key, value in one.items() if key.startswith(("pixels", "volume_ml"))}
    return scan | sums | {"cleared": scan["cleared"] and one["cleared"]}


def write_failed(folder: Path, failed: Iterable[tuple[str, str]]) -> Path:
    """Writes failed.csv, (file, reason) each; returns its path. That of earlier predictions goes if nothing failed."""
    path, rows = folder / "failed.csv", list(failed)
    if rows:
        write_whole(path, csv_rows([("file", "reason"), *rows]))
    else:
        path.unlink(missing_ok=True)
    return path
