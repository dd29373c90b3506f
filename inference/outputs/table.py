"""predictions.csv: what was found, a row for each image or scan; failed.csv: what could not be predicted."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from inference.outputs.found import Found
from inference.run import TrainedModel


class Summary:
    """predictions.csv.

    Columns: name, file, height, width; slices of a scan; cleared (with a gate: whether it found nothing); for each
    class objects (of pictures), pixels, and area_mm2 or, of scans, volume_ml where distances are known. With several
    classes their names stand behind a slash.
    """

    def __init__(self, folder: Path, trained: TrainedModel):
        self._path = folder / "predictions.csv"
        self._several = len(trained.scored_classes) > 1
        self._rows: dict[str, dict] = {}

    def write(self, found: Found) -> dict:
        """Returns the row of a picture, or of a slice."""
        frame, prediction = found.frame, found.prediction
        height, width = prediction.mask.shape
        row = {"name": frame.name, "file": frame.where, "height": height, "width": width}
        if frame.scan is not None:
            row["slices"] = frame.scan.num_slices
        row["cleared"] = prediction.cleared
        for name, area in found.areas.items():
            behind = f"/{name}" if self._several else ""
            pixels = int(np.count_nonzero(area))
            if frame.scan is None:
                row[f"objects{behind}"] = int(found.labels[name].max(initial=0))
            row[f"pixels{behind}"] = pixels
            if frame.spacing_mm is not None and frame.scan is None:
                row[f"area_mm2{behind}"] = pixels * frame.spacing_mm[0] * frame.spacing_mm[1]
            elif frame.spacing_mm is not None:
                row[f"volume_ml{behind}"] = pixels * float(np.prod(frame.spacing_mm)) / 1000
        return row

    def collect(self, result: dict) -> None:
        """Takes what `write` returned: a slice is added to its scan."""
        name = result["name"]
        self._rows[name] = _added(self._rows[name], result) if name in self._rows else result

    def close(self) -> None:
        """Writes the file."""
        pd.DataFrame(list(self._rows.values())).to_csv(self._path, index=False)


def _added(scan: dict, one: dict) -> dict:
    """Returns the row of a scan with that of one more slice."""
    sums = {key: scan[key] + value for key, value in one.items() if key.startswith(("pixels", "volume_ml"))}
    return scan | sums | {"cleared": scan["cleared"] and one["cleared"]}


def write_failed(folder: Path, failed: list[tuple[str, str]]) -> Path:
    """Writes failed.csv, (file, reason) each; returns its path."""
    path = folder / "failed.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file", "reason"])
        rows.writerows(failed)
    return path
