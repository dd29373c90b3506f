"""Masks, instance maps and probabilities as PNG, and overlays to look at; of scans masks and probabilities as NIfTI."""

import threading
from pathlib import Path

import numpy as np

from imaging.codec import encode_indexed_png, encode_png
from imaging.painting import colour, display_image, paint_classes
from imaging.pixels import match_pixels
from imaging.volume import encode_volume, volume_from_slices
from inference.outputs.files import whole_file, write_whole
from inference.outputs.found import Found, place
from inference.run import TrainedModel


class Volumes:
    """Slices of scans, until a scan has all of its own."""

    def __init__(self):
        self._lock = threading.Lock()
        self._slices: dict[str, dict[int, np.ndarray]] = {}

    def add(self, found: Found, pixels: np.ndarray) -> np.ndarray | None:
        """Returns the scan's volume in the file's own orientation, when this is the last slice that lacked.

        Args:
          found: of a slice.
          pixels: [height, width] of it, any dtype.
        """
        scan, name = found.frame.scan, found.frame.name
        with self._lock:
            slices = self._slices.setdefault(name, {})
            slices[found.frame.index] = pixels
            if len(slices) < scan.num_slices:
                return None
            del self._slices[name]
        return volume_from_slices([slices[index] for index in range(scan.num_slices)], scan.geometry)


def mask_palettes(trained: TrainedModel) -> dict[str, list[tuple[int, int, int]]]:
    """Returns the colours of a mask's values: black, and those of the overlays; of overlapping classes by class.

    Of exclusive ones there is one mask, whose name is empty.
    """
    names = list(trained.scored_classes.values())
    colours = [colour(index) for index in range(len(names))]
    if trained.overlapping:
        return {name: [(0, 0, 0), tint] for name, tint in zip(names, colours, strict=True)}
    return {"": ([] if 0 in trained.scored_classes else [(0, 0, 0)]) + colours}


class Masks:
    """masks/<name>.png, an indexed PNG of class numbers; of overlapping classes masks/<name>.<class>.png, 0 and 1.

    The background is black, the classes have the colours of the overlays. Of scans the same as .nii.gz, on the scan's
    grid.
    """

    def __init__(self, folder: Path, trained: TrainedModel):
        self._folder, self._overlapping = folder / "masks", trained.overlapping
        self._palettes = mask_palettes(trained)
        self._volumes = {name: Volumes() for name in self._palettes}

    def write(self, found: Found) -> None:
        """Writes the mask of a frame."""
        masks = {"": found.prediction.mask}
        if self._overlapping:
            masks = {name: area.astype(np.uint8) for name, area in found.areas.items()}
        for name, mask in masks.items():
            frame, ending = found.frame, f".{name}" if name else ""
            if frame.scan is None:
                data = encode_indexed_png(mask, self._palettes[name])
                write_whole(place(self._folder, frame.name, f"{ending}.png"), data)
            elif (volume := self._volumes[name].add(found, mask)) is not None:
                data = encode_volume(volume, frame.scan.geometry)
                write_whole(place(self._folder, frame.name, f"{ending}.nii.gz"), data)


class Probabilities:
    """probabilities/<name>.<class>.png, 16 bits, 65535 for certain; of scans .nii.gz, float32."""

    def __init__(self, folder: Path, trained: TrainedModel):
        self._folder = folder / "probabilities"
        self._volumes = {name: Volumes() for name in trained.scored_classes.values()}

    def write(self, found: Found) -> None:
        """Writes the probabilities of a frame's classes."""
        frame = found.frame
        for name in found.areas:
            probability = found.probability(name)
            if frame.scan is None:
                pixels = np.rint(probability * 65535).astype(np.uint16)
                write_whole(place(self._folder, frame.name, f".{name}.png"), encode_png(pixels))
            elif (volume := self._volumes[name].add(found, probability)) is not None:
                data = encode_volume(volume, frame.scan.geometry)
                write_whole(place(self._folder, frame.name, f".{name}.nii.gz"), data)


class Arrays:
    """probabilities/<name>.npy, float32 [height, width, outputs]; of scans [slices, height, width, outputs]."""

    def __init__(self, folder: Path, trained: TrainedModel):
        self._folder = folder / "probabilities"
        self._lock = threading.Lock()
        self._slices: dict[str, dict[int, np.ndarray]] = {}

    def write(self, found: Found) -> None:
        """Writes the probabilities of a frame."""
        frame, probabilities = found.frame, found.prediction.probabilities
        if frame.scan is not None:
            with self._lock:
                slices = self._slices.setdefault(frame.name, {})
                slices[frame.index] = probabilities
                if len(slices) < frame.scan.num_slices:
                    return
                del self._slices[frame.name]
            probabilities = np.stack([slices[index] for index in range(frame.scan.num_slices)])
        with whole_file(place(self._folder, frame.name, ".npy")) as file:
            np.save(file, probabilities)


class Overlays:
    """overlays/<name>.png: the image with the classes painted over it; of scans the slice with most of them."""

    def __init__(self, folder: Path, trained: TrainedModel):
        self._folder, self._window = folder / "overlays", trained.stored_window
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[int, tuple[int, int], Found]] = {}

    def write(self, found: Found) -> None:
        """Paints a frame."""
        frame = found.frame
        if frame.scan is not None:
            # Of slices with equally many the lowest, in whatever order they come.
            rank = sum(int(area.sum()) for area in found.areas.values()), -frame.index
            with self._lock:
                count, best, fullest = self._seen.get(frame.name, (0, rank, found))
                best, fullest = max((best, fullest), (rank, found), key=lambda pair: pair[0])
                self._seen[frame.name] = (count + 1, best, fullest)
                if count + 1 < frame.scan.num_slices:
                    return
                found = self._seen.pop(frame.name)[2]
        write_whole(place(self._folder, frame.name, ".png"), encode_png(overlay(found, self._window)))


def overlay(found: Found, window: tuple[float, float] | None) -> np.ndarray:
    """Returns uint8 RGB [height, width, 3]: the image with the scored classes painted over it.

    Args:
      found: what to paint.
      window: the model's stored values that are black and white; None: the image's own.
    """
    image = found.frame.image
    if window is not None:
        image = match_pixels(image, image.shape[2], found.trained.dtype)
    return paint_classes(display_image(image, window), np.stack(list(found.areas.values())))


class Instances:
    """instances/<name>.png, uint16: 0 none, 1, 2 ... the objects; with several classes <name>.<class>.png."""

    def __init__(self, folder: Path, trained: TrainedModel):
        self._folder, self._several = folder / "instances", len(trained.scored_classes) > 1

    def write(self, found: Found) -> None:
        """Writes the instance maps of a picture."""
        if found.frame.scan is not None:
            return
        for name, labels in found.labels.items():
            if labels.max() > np.iinfo(np.uint16).max:
                raise ValueError(f"expected at most 65535 objects of {name} for an instance map, found {labels.max()}")
            ending = f".{name}.png" if self._several else ".png"
            write_whole(place(self._folder, found.frame.name, ending), encode_png(labels.astype(np.uint16)))
