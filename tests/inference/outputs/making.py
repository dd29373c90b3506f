"""Frames, and what is found in them, without a model."""

import numpy as np

from imaging.volume import Geometry
from inference.images import Prediction
from inference.inputs.frames import Frame, Scan
from inference.outputs.found import Found
from inference.postprocess import Steps
from inference.run import TrainedModel


def trained_on(classes=("background", "cell"), overlapping=False, dtype="uint8", channels=3) -> TrainedModel:
    return TrainedModel(None, list(classes), channels, dtype, "", overlapping=overlapping)


def found_in(mask, probabilities=None, trained=None, name="x", split=0, spacing_mm=None, cleared=False) -> Found:
    """A picture of noise with this mask; the probabilities are 0.75 in it and 0.25 elsewhere, unless they are given."""
    trained = trained or trained_on()
    mask = np.asarray(mask, np.uint16 if trained.overlapping else np.uint8)
    image = np.random.default_rng(0).integers(0, 256, (*mask.shape, trained.channels)).astype(trained.dtype)
    if probabilities is None:
        probabilities = np.where(mask > 0, 0.75, 0.25)[..., None].repeat(trained.labels.outputs, -1)
    postprocess = dict.fromkeys(trained.scored_classes, Steps(split=split))
    frame = Frame(name, f"in/{name}.png", image, image, spacing_mm)
    return Found(frame, Prediction(probabilities.astype(np.float32), mask, postprocess, cleared), trained)


def found_in_scan(mask: np.ndarray, geometry: Geometry, trained=None, name="scan") -> list[Found]:
    """The slices of a scan with these masks [slices, height, width]."""
    slices = []
    for index, one in enumerate(mask):
        found = found_in(one, trained=trained or trained_on(dtype="uint16", channels=1), name=name)
        frame = found.frame._replace(
            where=f"in/{name}.nii", scan=Scan(geometry, len(mask)), index=index, spacing_mm=geometry.spacing_mm
        )
        slices.append(Found(frame, found.prediction, found.trained))
    return slices
