"""Objects as shapes and codes: GeoJSON, COCO JSON, run-length CSV. Of pictures; the slices of scans have volumes."""

import csv
import json
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_codec

from imaging.rle import encode_objects
from inference.outputs.found import Found, place
from inference.run import TrainedModel


class Contours:
    """contours/<name>.geojson: a feature for each object, its outline along the edges of its pixels.

    Coordinates are pixels, (0, 0) the upper left corner of the image, x to the right and y down.
    """

    def __init__(self, folder: Path, trained: TrainedModel):
        self._folder = folder / "contours"

    def write(self, found: Found) -> None:
        """Writes the outlines of a picture's objects."""
        if found.frame.scan is not None:
            return
        features = []
        for name, labels in found.labels.items():
            outlines = _outlines(labels)
            for one in found.objects(name):
                properties = {"class": name, "object": one.number, "pixels": int(one.area.sum())}
                properties["score"] = round(one.score, 4)
                geometry = {"type": "MultiPolygon", "coordinates": outlines[one.number]}
                features.append({"type": "Feature", "properties": properties, "geometry": geometry})
        text = json.dumps({"type": "FeatureCollection", "features": features})
        place(self._folder, found.frame.name, ".geojson").write_text(text + "\n")


def _outlines(labels: np.ndarray) -> dict[int, list]:
    """Returns the polygons of each object, int32 [height, width]: rings of (x, y), holes behind their outline."""
    from rasterio.features import shapes

    outlines: dict[int, list] = {}
    # Parts that touch at a corner alone are polygons of their own: one that meets itself there would not be valid.
    for polygon, number in shapes(labels, mask=labels > 0, connectivity=4):
        outlines.setdefault(int(number), []).append(polygon["coordinates"])
    return outlines


class Coco:
    """coco.json: images, categories, and an annotation in run-length code for each object, with its score."""

    def __init__(self, folder: Path, trained: TrainedModel):
        self._path, self._objects = folder / "coco.json", folder / "coco.json.part"
        self._numbers = {name: number for number, name in enumerate(trained.scored_classes.values(), 1)}
        self._images: list[dict] = []
        self._count = 0
        self._file = self._objects.open("w")

    def write(self, found: Found) -> tuple[dict, list[dict]] | None:
        """Returns a picture, and its objects."""
        if found.frame.scan is not None:
            return None
        height, width = found.prediction.mask.shape
        image = {"file_name": found.frame.where, "name": found.frame.name, "height": height, "width": width}
        return image, [self._annotation(found, name, one) for name in found.labels for one in found.objects(name)]

    def _annotation(self, found: Found, name: str, one) -> dict:
        mask = np.zeros(found.prediction.mask.shape, np.uint8, order="F")
        mask[one.window] = one.area
        code = coco_codec.encode(mask)
        return {
            "category_id": self._numbers[name],
            "segmentation": {"size": code["size"], "counts": code["counts"].decode("ascii")},
            "area": int(one.area.sum()),
            "bbox": coco_codec.toBbox(code).tolist(),
            "iscrowd": 0,
            "score": round(one.score, 4),
        }

    def collect(self, result: tuple[dict, list[dict]] | None) -> None:
        """Takes what `write` returned, in the order of the pictures."""
        if result is None:
            return
        image, annotations = result
        self._images.append({"id": len(self._images) + 1, **image})
        for one in annotations:
            self._count += 1
            line = json.dumps({"id": self._count, "image_id": len(self._images), **one})
            self._file.write(f"{line}," if self._count == 1 else f"\n{line},")

    def close(self) -> None:
        """Puts the file together."""
        self._file.close()
        categories = [{"id": number, "name": name} for name, number in self._numbers.items()]
        with self._objects.open() as objects, self._path.open("w") as file:
            file.write(f'{{"images": {json.dumps(self._images)},\n"categories": {json.dumps(categories)},\n')
            file.write('"annotations": [')
            for line in objects:
                last = line.endswith(",")  # all others end with a newline
                file.write(line.removesuffix(",") if last else line)
            file.write("]}\n")
        self._objects.unlink()


class RunLengths:
    """rle.csv: Image, Class, EncodedPixels: a row for each object (Kaggle's code), an empty one where there is none."""

    def __init__(self, folder: Path, trained: TrainedModel):
        self._file = (folder / "rle.csv").open("w", newline="")
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(["Image", "Class", "EncodedPixels"])

    def write(self, found: Found) -> list[tuple[str, str, str]]:
        """Returns the rows of a picture."""
        if found.frame.scan is not None:
            return []
        codes = {name: encode_objects(labels) for name, labels in found.labels.items()}
        return [(found.frame.name, name, code) for name, many in codes.items() for code in many or [""]]

    def collect(self, result: list[tuple[str, str, str]]) -> None:
        """Takes what `write` returned, in the order of the pictures."""
        self._rows.writerows(result)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
