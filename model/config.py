"""Settings of the network and of augmentation. Imports no TensorFlow, so that --help is quick."""

from dataclasses import dataclass
from typing import Literal

Precision = Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]


@dataclass(frozen=True)
class ModelConfig:
    """The U-Net's shape."""

    depth: int = 4
    """How often height and width are halved; images must be divisible by 2 to the power of it."""
    filters: int = 16
    """Filters of the first level; every level below doubles them."""
    norm: Literal["batch", "none"] = "batch"
    """Normalisation behind each convolution."""
    norm_momentum: float = 0.99
    """How slowly batch normalisation's running averages, which prediction uses, follow training. Runs of a few hundred
    steps want 0.9."""
    dropout: float = 0.1
    """Share of feature maps dropped at the end of each level, in training."""
    noise: float = 0.0
    """Deviation of Gaussian noise on the normalised input, in training."""
    upsampling: Literal["repeat", "transpose"] = "repeat"
    """How height and width are doubled: repeated pixels and a convolution, or a transposed convolution."""
    input_norm: Literal["dataset", "image"] = "dataset"
    """Pixels are normalised by mean and deviation of the training split, or of each image. With a window, dataset means
    the window's scaling alone, and image what comes behind it."""
    window: tuple[float, float] | None = None
    """Values (HU for CT) clipped and scaled by the model: the lowest to -1, the highest to 1, e.g. '[-1000, 400]'."""

    def __post_init__(self):
        if self.depth < 1:
            raise ValueError(f"model.depth: expected at least 1, found {self.depth}")
        if self.filters < 1:
            raise ValueError(f"model.filters: expected at least 1, found {self.filters}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout: expected a share from 0 to below 1, found {self.dropout}")
        if not 0 < self.norm_momentum < 1:
            raise ValueError(f"model.norm_momentum: expected a share between 0 and 1, found {self.norm_momentum}")
        if self.noise < 0:
            raise ValueError(f"model.noise: expected a deviation of at least 0, found {self.noise}")
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError(f"model.window: expected the lowest value before the highest, found {list(self.window)}")


@dataclass(frozen=True)
class AugmentConfig:
    """What happens to training images."""

    flip: bool = True
    """Mirror left-right and upside down, each with probability 1/2."""
    quarter_turns: bool = True
    """Rotate by 0, 90, 180 or 270 degrees; square images only."""
    affine: float = 0.5
    """Probability of an affine transform."""
    rotation: float = 15.0
    """Largest rotation of the affine transform, in degrees."""
    scale: float = 0.15
    """Largest change of scale: 0.15 draws from 1/1.15 to 1.15."""
    shift: float = 0.05
    """Largest shift, as a share of height and width."""
    brightness: float = 0.1
    """Largest change of brightness, as a share of the image's own contrast range."""
    contrast: float = 0.2
    """Largest change of contrast: 0.2 draws factors from 1/1.2 to 1.2."""

    def __post_init__(self):
        if not 0 <= self.affine <= 1:
            raise ValueError(f"augment.affine: expected a probability, found {self.affine}")
        for name in ("rotation", "scale", "shift", "brightness", "contrast"):
            if getattr(self, name) < 0:
                raise ValueError(f"augment.{name}: expected at least 0, found {getattr(self, name)}")

    @staticmethod
    def none() -> "AugmentConfig":
        """Returns the settings that change nothing."""
        return AugmentConfig(False, False, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
