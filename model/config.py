"""Settings of the network and of augmentation. Imports no TensorFlow, so that --help is quick."""

import math
from dataclasses import dataclass
from typing import Literal

from model.settings import refuse_unread

Precision = Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]


Encoder = Literal[
    "plain",
    "residual",
    "resnet34",
    "resnet50v2",
    "efficientnetv2b0",
    "efficientnetv2b1",
    "efficientnetv2b2",
    "efficientnetv2b3",
    "efficientnetv2s",
    "efficientnetv2m",
    "mobilenetv3small",
    "mobilenetv3large",
    "convnexttiny",
]

_ANY_DEPTH = ("plain", "residual")


@dataclass(frozen=True)
class ModelConfig:
    """The network's shape."""

    encoder: Encoder = "plain"
    """What goes down: two convolutions a level; the same with shortcuts (He et al. 2015), in the decoder too;
    ResNet-34; or a network of keras.applications, for images of 1 or 3 channels."""
    decoder: Literal["unet", "unetpp"] = "unet"
    """What goes up: the U-Net's, or the nested one of U-Net++."""
    depth: int = 4
    """How often height and width are halved; images must be divisible by 2 to the power of it. 5 for all encoders but
    plain and residual."""
    filters: int | tuple[int, ...] = 16
    """Filters of the first level, every level below doubles them; or of every level from the top, e.g.
    '[8, 16, 32, 64, 128]' for depth 4. Encoders other than plain and residual have widths of their own: these are the
    decoder's then, one for each of its 5 levels."""
    attention: bool = False
    """Gates on the skips, which learn where to look."""
    deep_supervision: bool = False
    """The loss also judges the decoder's lower levels, in training (U-Net++: the other nodes of its top row)."""
    norm: Literal["batch", "sync_batch", "group", "none"] = "batch"
    """Normalisation behind each convolution: by batch and device, by batch over all GPUs, by groups of at most 8
    filters' share, or none. Encoders of keras.applications keep their own: batch stands for batch or sync_batch."""
    norm_momentum: float = 0.99
    """How slowly batch normalisation's running averages, which prediction uses, follow training. Runs of a few hundred
    steps want 0.9."""
    activation: Literal["relu", "swish", "leaky_relu"] = "relu"
    """Behind each normalisation; encoders of keras.applications keep their own. leaky_relu has slope 0.01 below 0."""
    dropout: float = 0.1
    """Share of feature maps dropped at the end of each level of the decoder and of plain and residual encoders, and of
    the means by which a classifier judges, in training."""
    noise: float = 0.0
    """Deviation of Gaussian noise on the normalised input, in training."""
    upsampling: Literal["repeat", "transpose"] = "repeat"
    """How height and width are doubled: repeated pixels and a convolution, or a transposed convolution."""
    input_scaling: int = 1
    """The network sees images this many times smaller (means of pixels); logits of masks are enlarged again."""
    input_norm: Literal["dataset", "image"] = "dataset"
    """Pixels are normalised by mean and deviation of the training split, or of each image. With a window, dataset means
    the window's scaling alone, and image what comes behind it."""
    window: tuple[float, float] | None = None
    """Values (HU for CT) clipped and scaled by the model: the lowest to -1, the highest to 1, e.g. '[-1000, 400]'."""
    weights: str = "none"
    """Initial weights: none (random), imagenet (of the encoder; Keras downloads them), or the path of a Keras weights
    file of the encoder (.h5) or of another run's model.keras."""

    def __post_init__(self):
        if self.depth < 1:
            raise ValueError(f"model.depth: expected at least 1, found {self.depth}")
        if self.encoder not in _ANY_DEPTH and self.depth != 5:
            raise ValueError(
                f"model.depth: expected 5, as encoder {self.encoder} halves images five times, found {self.depth}; "
                "set --model.depth 5"
            )
        self._check_filters()
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout: expected a share from 0 to below 1, found {self.dropout}")
        if not 0 < self.norm_momentum < 1:
            raise ValueError(f"model.norm_momentum: expected a share between 0 and 1, found {self.norm_momentum}")
        reads_momentum = self.norm in ("batch", "sync_batch") or self.keeps_batch_norm
        refuse_unread(self, "model", {"norm_momentum": (reads_momentum, "batch normalisation")})
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"model.noise: expected a deviation of at least 0, found {self.noise}")
        if self.input_scaling < 1:
            raise ValueError(f"model.input_scaling: expected at least 1, found {self.input_scaling}")
        if self.window is not None and not -math.inf < self.window[0] < self.window[1] < math.inf:
            raise ValueError(f"model.window: expected the lowest value before the highest, found {list(self.window)}")
        if self.deep_supervision and self.depth < 2:
            raise ValueError(f"model.deep_supervision: expected a depth of at least 2, found {self.depth}")
        if self.weights == "imagenet" and not self.is_application:
            raise ValueError(
                f"model.weights: expected none or a path, as Keras has no ImageNet weights for encoder {self.encoder}, "
                "found imagenet; choose another encoder, e.g. resnet50v2"
            )

    def _check_filters(self):
        if isinstance(self.filters, int):
            smallest = self.filters
        else:
            levels = self.depth + 1 if self.encoder in _ANY_DEPTH else self.depth
            if len(self.filters) != levels:
                raise ValueError(
                    f"model.filters: expected one number, or {levels} (depth {self.depth}, encoder {self.encoder}), "
                    f"found {list(self.filters)}"
                )
            smallest = min(self.filters)
        if smallest < 1:
            raise ValueError(f"model.filters: expected at least 1, found {smallest}")

    @property
    def has_any_depth(self) -> bool:
        """Whether depth and widths of the encoder can be chosen."""
        return self.encoder in _ANY_DEPTH

    @property
    def is_application(self) -> bool:
        """Whether the encoder is one of keras.applications."""
        return self.encoder not in (*_ANY_DEPTH, "resnet34")

    @property
    def keeps_batch_norm(self) -> bool:
        """Whether the encoder has batch normalisation of its own, whatever `norm` says. ConvNeXt has none."""
        return self.is_application and self.encoder != "convnexttiny"

    @property
    def widths(self) -> tuple[int, ...]:
        """Filters of each level from the top; of depth + 1 levels, where the encoder has no widths of its own."""
        if isinstance(self.filters, int):
            levels = self.depth + 1 if self.encoder in _ANY_DEPTH else self.depth
            return tuple(self.filters * 2**level for level in range(levels))
        return tuple(self.filters)

    @property
    def multiple(self) -> int:
        """What height and width of images must be divisible by."""
        return 2**self.depth * self.input_scaling


@dataclass(frozen=True)
class AugmentConfig:
    """What happens to training images."""

    horizontal_flip: bool = True
    """Mirror left-right with probability 1/2. Not where left and right are classes, such as lungs."""
    vertical_flip: bool = True
    """Mirror upside down with probability 1/2. Not where images have a top, such as street scenes."""
    quarter_turns: bool = True
    """Rotate by 0, 90, 180 or 270 degrees; square images only, and not where images have a top."""
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
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"augment.{name}: expected at least 0, found {getattr(self, name)}")
        reader = self.affine > 0, "--augment.affine above 0"
        refuse_unread(self, "augment", {"rotation": reader, "scale": reader, "shift": reader})

    @staticmethod
    def none() -> "AugmentConfig":
        """Returns the settings that change nothing."""
        return AugmentConfig(False, False, False, affine=0.0, brightness=0.0, contrast=0.0)
