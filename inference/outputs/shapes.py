"""Objects as shapes and codes: GeoJSON, COCO JSON, run-length CSV. Of pictures; the slices of scans have volumes."""

import json
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_codec

from imaging.rle import encode_objects
from inference.outputs.files import csv_rows, whole_file, write_whole
from inference.outputs.found import Found, place
from inference.run import TrainedModel


class Contours:
    """contours/<name>.geojson: a feature for each object, its outline along the edges of its pixels.

    Coordinates are longitude and latitude where a TIFF says where it lies, else pixels, (0, 0) the upper left corner of
    the image, x to the right and y down.
    """

    def __init__(self, folder: Path, trained: TrainedModel):
        from rasterio.errors import NotGeoreferencedWarning

        self._folder = folder / "contours"
        warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)  # pixels are meant

    def write(self, found: Found) -> None:
        """Writes the outlines of a picture's objects."""
        if found.frame.scan is not None:
            return
        features = []
        for name, labels in found.labels.items():
            polygons = outlines(labels)
            for one in found.objects(name):
                properties = {"class": name, "object": one.number, "pixels": int(one.area.sum())}
                properties["score"] = round(one.score, 4)
                geometry = {"type": "MultiPolygon", "coordinates": polygons[one.number]}
                features.append({"type": "Feature", "properties": properties, "geometry": geometry})
        georeference = found.frame.georeference
        if georeference and georeference.has_degrees:
            geometries = georeference.geometries([feature["geometry"] for feature in features])
            features = [feature | {"geometry": placed} for feature, placed in zip(features, geometries, strict=True)]
        text = json.dumps({"type": "FeatureCollection", "features": features}) + "\n"
        write_whole(place(self._folder, found.frame.name, ".geojson"), text.encode())


def outlines(labels: np.ndarray) -> dict[int, list]:
    """Returns the polygons of each object, int32 [height, width]: rings of (x, y), holes behind their outline."""
    from rasterio.features import shapes

    polygons: dict[int, list] = {}
    # Parts that touch at a corner alone are polygons of their own: one that meets itself there would not be valid.
    for polygon, number in shapes(labels, mask=labels > 0, connectivity=4):
        polygons.setdefault(int(number), []).append(polygon["coordinates"])
    return polygons


class Coco:
    """coco.json: images, categories, and an annotation in run-length code for each object, with its score."""

    def __init__(self, folder: Path, trained: TrainedModel):
        self._path = folder / "coco.json"
        self._numbers = {name: number for number, name in enumerate(trained.scored_classes.values(), 1)}
        self._images: list[dict] = []
        self._count = 0
        # On the disk, because those of all images would fill the memory; a file without a name goes by itself.
        self._objects = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with this object)

    def write(self, found: Found) -> tuple[dict, list[dict]] | None:
        """Returns a picture, and its objects."""
        if found.frame.scan is not None:
            return None
        height, width = found.prediction.mask.shape
        image = {"file_name": found.frame.where, "name": found.frame.name, "height": height, "width": width}
        annotations = []
        for name, labels in found.labels.items():
            codes = encode_objects(labels)
            for one, text in zip(found.objects(name), codes, strict=True):
                code = _coco_code(text, height, width)
                annotations.append(
                    {
                        "category_id": self._numbers[name],
                        "segmentation": {"size": [height, width], "counts": code["counts"].decode("ascii")},
                        "area": int(one.area.sum()),
                        "bbox": coco_codec.toBbox(code).tolist(),
                        "iscrowd": 0,
                        "score": round(one.score, 4),
                    }
                )
        return image, annotations

    def collect(self, result: tuple[dict, list[dict]] | None) -> None:
        """Takes what `write` returned, in the order of the pictures."""
        if result is None:
            return
        image, annotations = result
        self._images.append({"id": len(self._images) + 1, **image})
        for one in annotations:
            self._count += 1
            line = json.dumps({"id": self._count, "image_id": len(self._images), **one})
            self._objects.write((",\n" * (self._count > 1) + line).encode())

    def close(self) -> None:
        """Puts the file together."""
        categories = [{"id": number, "name": name} for name, number in self._numbers.items()]
        with whole_file(self._path) as file:
            file.write(f'{{"images": {json.dumps(self._images)},\n"categories": {json.dumps(categories)},\n'.encode())
            file.write(b'"annotations": [')
            self._objects.seek(0)
            shutil.copyfileobj(self._objects, file)
            file.write(b"]}\n")
        self._objects.close()


def _coco_code(text: str, height: int, width: int) -> dict:
    """Returns COCO's compressed code of Kaggle's run-length code: lengths of background and object in turn."""
    numbers = np.array(text.split(), np.int64)
    starts, lengths = numbers[0::2] - 1, numbers[1::2]
    gaps = starts - np.concatenate([[0], (starts + lengths)[:-1]])
    counts = np.stack([gaps, lengths], axis=1).ravel()
    rest = height * width - counts.sum()
    counts = [*counts.tolist(), int(rest)] if rest else counts.tolist()
    return coco_codec.frPyObjects({"size": [height, width], "counts": counts}, height, width)


class RunLengths:
    """rle.csv: Image, Class, EncodedPixels: a row for each object (Kaggle's code), an empty one where there is none."""

    def __init__(self, folder: Path, trained: TrainedModel):
        self._path = folder / "rle.csv"
        self._spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with this object)

    def write(self, found: Found) -> bytes:
        """Returns the rows of a picture."""
        if found.frame.scan is not None:
            return b""
        codes = {name: encode_objects(labels) for name, labels in found.labels.items()}
        return csv_rows((found.frame.name, name, code) for name, many in codes.items() for code in many or [""])

    def collect(self, result: bytes) -> None:
        """Takes what `write` returned, in the order of the pictures."""
        self._spool.write(result)

    def close(self) -> None:
        """Puts the file together."""
        with whole_file(self._path) as file:
            file.write(csv_rows([("Image", "Class", "EncodedPixels")]))
            self._spool.seek(0)
            shutil.copyfileobj(self._spool, file)
        self._spool.close()
