"""Untrained U-Nets of a few weights."""

from inference.run import TrainedModel
from model.config import ModelConfig
from model.labels import Labels
from model.unet import build_unet

CLASSES = {
    "one": (["background", "cell"], False),
    "exclusive": (["background", "a", "b"], False),
    "overlapping": (["a", "b", "c"], True),
}


def tiny_model(kind: str = "one", channels: int = 3, dtype: str = "uint8", **settings) -> TrainedModel:
    """Returns a model of depth 1 for whole images of 16x24 that were stretched to it, unless settings say otherwise."""
    classes, overlapping = CLASSES[kind]
    config = ModelConfig(depth=1, filters=4, norm="none")
    scale = 1 if dtype == "uint8" else 257
    normal = [[value * scale] * channels for value in (128, 40)]
    network = build_unet(config, channels, Labels(len(classes), overlapping), *normal, seed=1)
    known = {"size": (16, 24), "stretched": True, "multiple": 2, "overlapping": overlapping, "digest": "of tiny"}
    known |= {"model": network, "classes": classes, "channels": channels, "dtype": dtype, "fingerprint": "of records"}
    return TrainedModel(**(known | settings))
